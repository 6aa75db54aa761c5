"""What fairseq's own classes make of a checkpoint; run as `python tests/fairseq_peer.py FOLDER [CHECKPOINT …]`.

Writes FOLDER/model.pt as fairseq does, FOLDER/outputs.npz with what its classes say, and FOLDER/read.json with the
sum of each tensor of the checkpoints, read with fairseq's classes. A process of its own: importing fairseq changes
the configuration of other libraries.
"""

from __future__ import annotations

import io
import json
import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import sentencepiece
import torch
from fairseq.criterions.label_smoothed_cross_entropy import label_smoothed_nll_loss
from fairseq.data.dictionary import Dictionary
from fairseq.data.encoders.sentencepiece_bpe import SentencepieceBPE
from fairseq.models import FairseqEncoder, FairseqEncoderDecoderModel
from fairseq.models.transformer import TransformerConfig, TransformerDecoderBase
from fairseq.models.wav2vec.wav2vec2 import TransformerEncoder, Wav2Vec2Config
from fairseq.sequence_generator import SequenceGenerator
from golden_fill import fill_array, tokens, wave
from torch import Tensor, nn

WIDTH, LAYERS, HEADS, INNER = 64, 2, 4, 128
SENTENCES = [
    "bin blue at f two now",
    "set white in z nine again",
    "lay green by k zero please",
    "place red with q one soon",
]
BEAM, LIMIT = 5, 9


def main(folder: Path, others: Sequence[Path]) -> None:
    torch.set_num_threads(1)
    dictionary, pieces = vocabulary(folder)
    model = Model(encoder(), decoder(dictionary)).eval()
    for part, prefix in ((model.encoder.transformer, "encoder."), (model.decoder, "decoder.")):
        named = {name: fill_array(prefix + name, value.shape) for name, value in part.state_dict().items()}
        part.load_state_dict({name: torch.from_numpy(value) for name, value in named.items()})
    save(folder / "model.pt", model, dictionary, pieces)
    np.savez(folder / "outputs.npz", **outputs(model, dictionary))
    classes = [Dictionary, SentencepieceBPE, sentencepiece.SentencePieceProcessor, Namespace, type(None)]
    scalar: Any = np._core.multiarray.scalar
    with torch.serialization.safe_globals([*classes, scalar, np.dtype, np.dtypes.Float64DType, int]):
        found = {path.name: torch.load(path, weights_only=True) for path in [folder / "model.pt", *others]}
    sums = {
        name: {key: float(value.double().sum()) for key, value in content["model"].items()}
        for name, content in found.items()
    }
    (folder / "read.json").write_text(json.dumps(sums))


def vocabulary(folder: Path) -> tuple[Dictionary, SentencepieceBPE]:
    written = io.BytesIO()
    options: dict[str, Any] = {"vocab_size": 32, "hard_vocab_limit": False, "minloglevel": 2}
    sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(SENTENCES), model_writer=written, **options)
    (folder / "spm.model").write_bytes(written.getvalue())
    pieces = SentencepieceBPE(
        Namespace(
            sentencepiece_model=str(folder / "spm.model"), sentencepiece_enable_sampling=False, sentencepiece_alpha=None
        )
    )
    dictionary = Dictionary()
    for number in range(3, pieces.sp.get_piece_size()):
        dictionary.add_symbol(pieces.sp.id_to_piece(number))
    return dictionary, pieces


class Memory(FairseqEncoder):
    """The transformer of AV-HuBERT's encoder, which is fairseq's, as an encoder of what lies in `src_tokens`."""

    def __init__(self, transformer: nn.Module) -> None:
        super().__init__(None)
        self.transformer = transformer

    def forward(self, src_tokens: Tensor, src_lengths: Tensor, prev_output_tokens: Tensor | None = None) -> Any:
        mask = torch.arange(src_tokens.shape[1]) >= src_lengths[:, None]
        out = self.transformer(src_tokens, padding_mask=mask)[0].transpose(0, 1)
        return {"encoder_out": [out], "encoder_padding_mask": [mask]}

    def forward_torchscript(self, net_input: dict[str, Tensor]) -> Any:
        return self.forward(net_input["src_tokens"], net_input["src_lengths"])

    def reorder_encoder_out(self, encoder_out: Any, new_order: Tensor) -> Any:
        return {
            "encoder_out": [encoder_out["encoder_out"][0].index_select(1, new_order)],
            "encoder_padding_mask": [encoder_out["encoder_padding_mask"][0].index_select(0, new_order)],
        }


class Model(FairseqEncoderDecoderModel):
    def __init__(self, transformer: nn.Module, decoder: nn.Module) -> None:
        super().__init__(Memory(transformer), decoder)


def encoder() -> nn.Module:
    config = Wav2Vec2Config()
    config.encoder_layers, config.encoder_embed_dim = LAYERS, WIDTH
    config.encoder_ffn_embed_dim, config.encoder_attention_heads = INNER, HEADS
    config.layer_norm_first, config.required_seq_len_multiple = True, 1
    return TransformerEncoder(config)


def decoder(dictionary: Dictionary) -> nn.Module:
    config = TransformerConfig()
    config.decoder.layers, config.decoder.embed_dim, config.decoder.output_dim = LAYERS, WIDTH, WIDTH
    config.decoder.input_dim, config.decoder.ffn_embed_dim = WIDTH, INNER
    config.decoder.attention_heads, config.decoder.normalize_before = HEADS, True
    config.encoder.embed_dim = WIDTH
    config.share_decoder_input_output_embed, config.no_scale_embedding = True, True
    embedding = nn.Embedding(len(dictionary), WIDTH, dictionary.pad())
    return TransformerDecoderBase(config, dictionary, embedding)


def save(path: Path, model: Model, dictionary: Dictionary, pieces: SentencepieceBPE) -> None:
    """With the front-ends of AV-HuBERT, which are not fairseq's, of random weights."""
    from avs.avsr.avhubert import AVHubertConfig, AVHubertEncoder

    torch.manual_seed(0)
    whole = AVHubertEncoder(AVHubertConfig(WIDTH, LAYERS, HEADS, INNER)).state_dict()
    whole |= {f"encoder.{name}": value for name, value in model.encoder.transformer.state_dict().items()}
    state = {f"encoder.w2v_model.{name}": value for name, value in whole.items()}
    state |= {f"decoder.{name}": value for name, value in model.decoder.state_dict().items()}
    sizes = {"encoder_attention_heads": HEADS, "layer_norm_first": True}
    content = {
        "args": None,
        "cfg": {"model": {"decoder_attention_heads": HEADS, "w2v_args": {"model": sizes}}, "task": {"normalize": True}},
        "model": state,
        "task_state": {"target_dictionary": dictionary, "s2s_tokenizer": pieces},
        "extra_state": {"best": np.float64(0.5)},
    }
    torch.save(content, path)


@torch.no_grad()
def outputs(model: Model, dictionary: Dictionary) -> dict[str, Any]:
    features = torch.from_numpy(wave("peer.features", (2, 11, WIDTH)))
    lengths = torch.tensor([11, 7])
    memory = model.encoder(features, lengths)
    given = torch.from_numpy(tokens("peer.prefix", (2, 6), 4, len(dictionary)))
    logits = model.decoder(given, encoder_out=memory)[0]
    said = torch.log_softmax(logits, dim=-1).flatten(0, 1)
    loss = label_smoothed_nll_loss(said, given.flatten()[:, None], 0.1)
    generator = SequenceGenerator([model], dictionary, beam_size=BEAM, max_len_a=0, max_len_b=LIMIT)
    found = generator.generate([model], {"net_input": {"src_tokens": features, "src_lengths": lengths}})
    said_by = {
        f"beam.{clip}.{place}.{part}": one[key].numpy()
        for clip, best in enumerate(found)
        for place, one in enumerate(best)
        for part, key in (("tokens", "tokens"), ("score", "score"))
    }
    known = {"features": features, "lengths": lengths, "given": given, "logits": logits}
    known |= {"memory": memory["encoder_out"][0].transpose(0, 1), "smoothed": loss[0], "nll": loss[1]}
    return {name: value.numpy() for name, value in known.items()} | said_by


if __name__ == "__main__":
    main(Path(sys.argv[1]), [Path(name) for name in sys.argv[2:]])
