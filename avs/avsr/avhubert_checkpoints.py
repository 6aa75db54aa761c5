"""AV-HuBERT's published checkpoints: fairseq's, MCoRec's port, and what `python -m avs weights convert` writes.

Nothing in a file can run (see avs.core.unpickle), and fairseq is not needed to read one.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from avs.avsr.avhubert import AVHubertConfig, AVHubertEncoder
from avs.avsr.decoders import DecoderConfig, Style
from avs.avsr.recognizers import CtcAttention, Recognizer, Seq2Seq
from avs.avsr.text import Tokenizer, described_tokenizer, unigram_folder
from avs.core.checkpoint import load_strict, read_description, read_tensors
from avs.core.errors import InputError
from avs.core.unpickle import Inert, read_pickle, told

AVHubert = AVHubertEncoder | Recognizer

MARK = "feature_extractor_audio.proj.weight"  # how the name ends that each of these files has
_LARGEST = {"width": 4096, "inner": 1 << 14, "layers": 64, "vocabulary": 1 << 17}
# Parts of pre-training and what older releases wrote beside the weights.
_IGNORED = ("mask_emb", "label_embs_concat", "final_proj.*", "target_glu.*")
_IGNORED_WHOLE = (*(f"encoder.{name}" for name in _IGNORED), "decoder.embed_positions._float_tensor", "decoder.version")
# What this implementation takes for granted of each part, under fairseq's names. An encoder's settings have those of a
# decoder too, which it has not.
_GRAPH: dict[str, dict[str, Any]] = {
    "encoder": {
        "layer_norm_first": True,
        "modality_fuse": "concat",
        "resnet_relu_type": "prelu",
        "audio_feat_dim": 104,
        "conv_pos": 128,
        "conv_pos_groups": 16,
        "sub_encoder_layers": 0,
        "activation_fn": "gelu",
    },
    "decoder": {
        "decoder_normalize_before": True,
        "share_decoder_input_output_embed": True,
        "no_scale_embedding": True,
        "decoder_learned_pos": False,
        "no_token_positional_embeddings": False,
    },
    "task": {"normalize": True, "stack_order_audio": 4},
}
_SMALL = "encoder.feature_extractor_video.resnet.front.weight"  # of the kit's own front-end
_HEAD = 64  # width of a head in both published encoders, and in the port's decoder
# Names of fairseq's fine-tuned models, then those of the port, into ours.
_RENAMED = [
    (r"^encoder\.w2v_model\.", "encoder."),
    (r"^avsr\.", ""),
    (r"\.pos_conv_embed\.conv\.", ".pos_conv.0."),
    (r"\.parametrizations\.weight\.original0$", ".weight_g"),
    (r"\.parametrizations\.weight\.original1$", ".weight_v"),
    (r"(layers\.\d+)\.layer_norm\.", r"\1.self_attn_layer_norm."),
    (r"\.attention\.", ".self_attn."),
    (r"\.feed_forward\.intermediate_dense\.", ".fc1."),
    (r"\.feed_forward\.output_dense\.", ".fc2."),
    (r"^decoder\.decoders\.", "decoder.layers."),
    (r"\.src_attn\.", ".encoder_attn."),
    (r"\.linear_([qkv]|out)\.", r".\1_proj."),
    (r"\.feed_forward\.w_([12])\.", r".fc\1."),
    (r"^(decoder\..+)\.norm1\.", r"\1.self_attn_layer_norm."),
    (r"^(decoder\..+)\.norm2\.", r"\1.encoder_attn_layer_norm."),
    (r"^(decoder\..+)\.norm3\.", r"\1.final_layer_norm."),
    (r"^decoder\.after_norm\.", "decoder.layer_norm."),
    (r"^decoder\.embed\.0\.", "decoder.embed_tokens."),
    (r"^decoder\.output_layer\.", "decoder.output_projection."),
    (r"^ctc\.ctc_lo\.", "ctc."),
]


@dataclass(frozen=True)
class _Content:
    """What a checkpoint holds: tensors by our names, heads where it tells them, and its tokenizer."""

    tensors: Mapping[str, Tensor]
    heads: Mapping[str, int]
    tokenizer: Tokenizer | None


def load_avhubert(path: str | os.PathLike[str], tokenizer: Tokenizer | None = None) -> AVHubert:
    """The model of a checkpoint, in eval mode, with its `key_report`; the file says which kind it is.

    path: a fairseq `.pt` (pretrained: `AVHubertEncoder`; fine-tuned: `Seq2Seq`, with its `tokenizer`), a folder of
    MCoRec's port (`config.json` beside `model.safetensors` or `pytorch_model.bin`: `CtcAttention`; with a
    `*units.txt` and a sentencepiece `*.model` in it, its `tokenizer`), or a converted `.safetensors`.
    tokenizer: for a checkpoint that has none.

    Raises InputError unless each tensor is there in its shape, and no other but what pre-training leaves, for a
    model of another architecture, and for a vocabulary that is not that of the tokenizer.
    """
    path = Path(path)
    content = _read(path)
    whole = any(name.startswith(("decoder.", "ctc.")) for name in content.tensors)
    with torch.device("meta"):  # it takes the file's tensors, and no memory for sizes that a file only claims
        network = _built(content, path, whole=whole)
    ignored, prefixes = (_IGNORED_WHOLE, ()) if whole else (_IGNORED, ("encoder.",))
    network.key_report = load_strict(network, content.tensors, source=path, prefixes=prefixes, ignored=ignored)
    for tensor in (*network.parameters(), *network.buffers()):
        tensor.data = _owned(tensor.data)
    if isinstance(network, Recognizer):
        network.tokenizer = _fitting(content.tokenizer or tokenizer, network.decoder.config.vocabulary, path)
    return network.eval()


def described(network: AVHubert) -> dict[str, Any]:
    """What a converted file has to say beside the tensors."""
    tree: dict[str, Any] = {
        "encoder": asdict(network.config if isinstance(network, AVHubertEncoder) else network.encoder.config)
    }
    if isinstance(network, Recognizer):
        tree["decoder"] = asdict(network.decoder.config)
        tree["tokenizer"] = None if network.tokenizer is None else network.tokenizer.described()
    return tree


def weight_files(folder: Path) -> list[Path]:
    """The files of tensors in a folder of the port, all of one format; there may be several parts."""
    for pattern in ("model*.safetensors", "pytorch_model*.bin"):
        if found := sorted(folder.glob(pattern)):
            return found
    raise InputError(f"{folder}: holds neither model.safetensors nor pytorch_model.bin")


def _read(path: Path) -> _Content:
    if path.is_dir():
        tensors = {name: value for file in weight_files(path) for name, value in read_tensors(file).items()}
        units = any(path.glob("*units.txt"))
        return _Content(_named(tensors, path), _port_heads(path), unigram_folder(path) if units else None)
    if path.suffix == ".safetensors":
        return _read_converted(path)
    content = read_pickle(path)
    if isinstance(content, Mapping) and isinstance(content.get("model"), Mapping) and {"cfg", "args"} & set(content):
        return _fairseq(content, path)
    return _Content(_named(read_tensors(path), path), {}, None)


def _named(tensors: Mapping[str, Any], path: Path) -> dict[str, Tensor]:
    """Tensors by our names: those of the encoder below `encoder.`."""
    renamed: dict[str, Tensor] = {}
    for name, value in tensors.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise InputError(f"{path}: {name!r} is a {type(value).__name__}, not a tensor")
        for pattern, replacement in _RENAMED:
            name = re.sub(pattern, replacement, name)
        if name in renamed:
            raise InputError(f"{path}: holds {name} twice, under two names")
        renamed[name] = value
    if any(name.startswith(("decoder.", "encoder.encoder.", "encoder.feature_extractor_")) for name in renamed):
        return renamed
    return {f"encoder.{name}": value for name, value in renamed.items()}


def _fairseq(content: Mapping[Any, Any], path: Path) -> _Content:
    settings = _settings(content)
    for part, known in settings.items():
        for name, value in _GRAPH[part].items():
            found = known.get(name, value)
            if not isinstance(found, type(value)) or found != value:
                raise InputError(f"{path}: {name} is {told(found)}; only models with {value!r} are supported")
    names = {part: f"{part}_attention_heads" for part in ("encoder", "decoder")}
    heads = {part: settings[part][name] for part, name in names.items() if name in settings.get(part, {})}
    tensors = _named(content["model"], path)
    tied = tensors.pop("decoder.output_projection.weight", None)  # some releases write the embedding twice
    if tied is not None and not torch.equal(tied, tensors.get("decoder.embed_tokens.weight", tied)):
        raise InputError(f"{path}: its decoder's output weights are not its embedding, which is not supported")
    return _Content(tensors, heads, _pickled_tokenizer(content, path))


def _settings(content: Mapping[Any, Any]) -> dict[str, Mapping[str, Any]]:
    """Settings of the encoder, the task and, of a fine-tuned model, the decoder: nested, or in older releases flat."""
    whole = _tree(content.get("cfg")) or _tree(content.get("args"))
    model = _tree(whole.get("model")) or whole
    before = _tree(model.get("w2v_args"))  # pre-training's settings, in those of a fine-tuned model
    found = {"task": _tree(whole.get("task")) or whole, "encoder": _tree(before.get("model")) or before or model}
    return found | ({"decoder": model} if before else {})


def _tree(value: Any) -> Mapping[str, Any]:
    value = value.state if isinstance(value, Inert) else value
    return value if isinstance(value, Mapping) else {}


def _pickled_tokenizer(content: Mapping[Any, Any], path: Path) -> Tokenizer | None:
    """The dictionary and sentencepiece model of a fine-tuned file, from its task's state."""
    state = content.get("task_state")
    dictionary = _state(state.get("target_dictionary")) if isinstance(state, Mapping) else None
    if not isinstance(state, Mapping) or dictionary is None:
        return None
    symbols = dictionary.get("symbols")
    processor = _state((_state(state.get("s2s_tokenizer")) or {}).get("sp")) or {}
    model = processor.get("model_proto")
    if not isinstance(symbols, list) or not isinstance(model, bytes | None):
        raise InputError(f"{path}: its dictionary or its sentencepiece model is damaged")
    return Tokenizer(tuple(symbols), model)


def _state(value: Any) -> dict[str, Any] | None:
    return value.state if isinstance(value, Inert) and isinstance(value.state, dict) else None


def _port_heads(folder: Path) -> dict[str, int]:
    """Heads as config.json tells them; `aheads` there describes an encoder that the model has not."""
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: cannot be read as JSON: {error}") from None
    if not isinstance(config, dict):
        raise InputError(f"{path}: must be a JSON object")
    names = {"encoder": "encoder_attention_heads", "decoder": "dheads"}
    return {part: config[name] for part, name in names.items() if name in config}


def _read_converted(path: Path) -> _Content:
    tensors = _named(read_tensors(path), path)
    try:
        sizes = read_description(path).get("sizes") or {}
        heads = {part: sizes[part]["heads"] for part in ("encoder", "decoder") if part in sizes}
        tokenizer = sizes.get("tokenizer")
        return _Content(tensors, heads, tokenizer and described_tokenizer(tokenizer))
    except InputError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: its description is damaged: {error!r}") from None


def _built(content: _Content, path: Path, *, whole: bool) -> AVHubert:
    tensors = content.tensors
    width = _size(tensors, f"encoder.{MARK}", 0, "width", path)
    inner = _size(tensors, "encoder.encoder.layers.0.fc1.weight", 0, "inner", path)
    layers = _layers(tensors, "encoder.encoder", path)
    heads = _heads(content, "encoder", width // _HEAD, path)
    encoder = AVHubertConfig(width, layers, heads, inner, front_end="small" if _SMALL in tensors else "resnet18")
    if not whole:
        return AVHubertEncoder(encoder)
    style: Style = (
        "espnet" if any(name.startswith(("ctc.", "decoder.output_projection.")) for name in tensors) else "fairseq"
    )
    vocabulary, width = (
        _size(tensors, "decoder.embed_tokens.weight", axis, name, path)
        for axis, name in enumerate(("vocabulary", "width"))
    )
    inner = _size(tensors, "decoder.layers.0.fc1.weight", 0, "inner", path)
    layers = _layers(tensors, "decoder", path)
    heads = _heads(content, "decoder", width // _HEAD if style == "espnet" else None, path)
    decoder = DecoderConfig(vocabulary, width, layers, heads, inner, style)
    return CtcAttention(encoder, decoder) if style == "espnet" else Seq2Seq(encoder, decoder)


def _size(tensors: Mapping[str, Tensor], name: str, axis: int, size: str, path: Path) -> int:
    if name not in tensors or tensors[name].ndim <= axis:
        first = ", ".join(list(tensors)[:3]) or "nothing"
        raise InputError(f"{path}: is no AV-HuBERT: it has no {name} (but {first}, …)")
    return _checked(tensors[name].shape[axis], size, path)


def _layers(tensors: Mapping[str, Tensor], part: str, path: Path) -> int:
    found = (re.match(rf"{re.escape(part)}\.layers\.(\d{{1,4}})\.", name) for name in tensors)
    return _checked(1 + max((int(match[1]) for match in found if match), default=-1), "layers", path)


def _heads(content: _Content, part: str, default: int | None, path: Path) -> int:
    heads = content.heads.get(part, default)
    if heads is None:
        raise InputError(
            f"{path}: does not tell how many heads its {part} has, which its tensors cannot: give the whole file"
        )
    if type(heads) is not int or heads < 1:
        raise InputError(f"{path}: heads of the {part} ({told(heads)}) must be a number >= 1")
    return heads


def _checked(number: int, size: str, path: Path) -> int:
    if not 1 <= number <= _LARGEST[size]:
        raise InputError(f"{path}: {size} ({number}) must be from 1 to {_LARGEST[size]}")
    return number


def _fitting(tokenizer: Tokenizer | None, vocabulary: int, path: Path) -> Tokenizer | None:
    if tokenizer is not None and len(tokenizer.symbols) != vocabulary:
        raise InputError(f"{path}: has {vocabulary} outputs, its tokenizer {len(tokenizer.symbols)} symbols")
    return tokenizer


def _owned(value: Tensor) -> Tensor:
    """In float32, and in memory of its own: tensors of a file may overlap."""
    value = value.float() if value.is_floating_point() else value
    alone = value.is_contiguous() and value.untyped_storage().nbytes() == value.numel() * value.itemsize
    return value if alone else value.clone(memory_format=torch.contiguous_format)
