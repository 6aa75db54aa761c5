"""AV-HuBERT's checkpoints: each published layout in, the same outputs out, and what does not fit refused by name."""

from __future__ import annotations

import json
import os
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from avhubert_golden import (
    ESPNET,
    FAIRSEQ,
    GOLDEN,
    SHARED,
    SMALL,
    TOLERANCE,
    filled,
    golden,
    inputs,
    largest,
    table,
    tensors_of,
)
from golden_fill import fill_array
from safetensors.torch import save_file
from test_text import folder as unigram
from torch import Tensor

from avs.avsr.avhubert import AVHubertConfig, AVHubertEncoder
from avs.avsr.avhubert_checkpoints import load_avhubert
from avs.avsr.checkpoints import convert, write_network
from avs.avsr.decoders import DecoderConfig
from avs.avsr.recognizers import CtcAttention, Seq2Seq
from avs.avsr.text import Tokenizer, word_tokenizer
from avs.core.errors import InputError
from avs.core.execute import one_thread

TRUNK = "feature_extractor_video.resnet.trunk"
PRETRAINING = {
    "mask_emb": (104,),
    "label_embs_concat": (20, 32),
    "final_proj.weight": (32, 64),
    "final_proj.bias": (32,),
}
TINY = SHARED / "dev/fairseq_finetuned_tiny.pt"
LEGACY = SHARED / "dev/fairseq_pretrain_partial_legacy.pt"


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


def encoder() -> AVHubertEncoder:
    return filled(AVHubertEncoder(SMALL))


def pretrained() -> dict[str, Tensor]:
    """What fairseq writes after pre-training."""
    beside = {name: torch.from_numpy(fill_array(name, shape)) for name, shape in PRETRAINING.items()}
    return encoder().state_dict() | beside


def finetuned() -> dict[str, Tensor]:
    state = filled(Seq2Seq(SMALL, FAIRSEQ)).state_dict()
    renamed = {
        name.replace("encoder.", "encoder.w2v_model.", 1) if name.startswith("encoder.") else name: value
        for name, value in state.items()
    }
    return renamed | {
        "decoder.embed_positions._float_tensor": torch.zeros(1),
        "encoder.w2v_model.mask_emb": torch.zeros(104),
    }


def settings(**changes: Any) -> dict[str, Any]:
    """Of an encoder. fairseq's have defaults of a decoder that is not there, unlike those of the one that is."""
    unused = {
        "decoder_attention_heads": 2,
        "decoder_normalize_before": False,
        "share_decoder_input_output_embed": False,
    }
    return {"encoder_attention_heads": 4, "layer_norm_first": True, "modality_fuse": "concat", **unused, **changes}


DECODER = {"decoder_attention_heads": 4, "decoder_normalize_before": True, "share_decoder_input_output_embed": True}


def fairseq_file(path: Path, tensors: dict[str, Tensor], *, legacy: bool = False, **changes: Any) -> Path:
    """As fairseq writes: settings nested, or in older releases flat, and the older layout of torch.save."""
    task, encoder = {"normalize": True, "stack_order_audio": 4}, settings(**changes)
    before = (
        Namespace(**encoder) if "decoder.layer_norm.weight" in tensors and legacy else {"task": task, "model": encoder}
    )
    model = {**DECODER, "w2v_args": before} if "decoder.layer_norm.weight" in tensors else encoder
    nested = {"task": task, "model": model}
    content = {"args": Namespace(**task, **model) if legacy else None, "cfg": None if legacy else nested}
    torch.save(content | {"model": tensors}, path, _use_new_zipfile_serialization=not legacy)
    return path


def port_folder(path: Path, tensors: dict[str, Tensor], *, name: str = "model.safetensors") -> Path:
    path.mkdir(exist_ok=True)
    (path / "config.json").write_text(json.dumps({"encoder_attention_heads": 4, "dheads": 4, "aheads": 12}))
    save_file(tensors, path / name) if name.endswith("safetensors") else torch.save(tensors, path / name)
    return path


@pytest.mark.parametrize("legacy", [False, True])
@torch.no_grad()
def test_pretrained_of_fairseq(legacy: bool, tmp_path: Path) -> None:
    found = load_avhubert(fairseq_file(tmp_path / "net.pt", pretrained(), legacy=legacy))
    assert isinstance(found, AVHubertEncoder)
    assert found.config.heads == 4
    assert found.key_report is not None
    assert "not needed: mask_emb, label_embs_concat, final_proj.weight, final_proj.bias" in str(found.key_report)
    known = golden("avhubert_encoder")
    assert largest(found(*inputs("avhubert.audio.av", "avhubert.video.av", 2, 6)), known["av.out"]) < TOLERANCE


@pytest.mark.parametrize("legacy", [False, True])
@torch.no_grad()
def test_finetuned_of_fairseq(legacy: bool, tmp_path: Path) -> None:
    found = load_avhubert(fairseq_file(tmp_path / "net.pt", finetuned(), legacy=legacy))
    assert isinstance(found, Seq2Seq)
    assert found.decoder.config == FAIRSEQ
    assert found.tokenizer is None
    audio, video = inputs("fss2s.audio", "fss2s.video", 2, 8)
    expected = filled(Seq2Seq(SMALL, FAIRSEQ)).encoder(audio, video)
    assert largest(found.encoder(audio, video), expected) < TOLERANCE


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
@torch.no_grad()
def test_folder_of_the_port(name: str, tmp_path: Path) -> None:
    tensors = tensors_of(GOLDEN / "avhubert_small.port.keys.tsv")
    found = load_avhubert(port_folder(tmp_path / "net", tensors, name=name))
    assert isinstance(found, CtcAttention)
    assert found.decoder.config == ESPNET
    audio, video = inputs("port.audio.b", "port.video.b", 1, 8)
    frames = found.ctc(found.encoder(audio, video)).log_softmax(dim=-1)
    assert largest(frames, golden("port_decoder")["small.b.ctc_log_softmax"]) < TOLERANCE


def test_folder_of_the_port_in_parts(tmp_path: Path) -> None:
    tensors = tensors_of(GOLDEN / "avhubert_small.port.keys.tsv")
    names = sorted(tensors)
    parts = names[:100], names[100:]
    for number, part in enumerate(parts, start=1):
        port_folder(tmp_path, {name: tensors[name] for name in part}, name=f"model-0000{number}-of-00002.safetensors")
    assert isinstance(load_avhubert(tmp_path), CtcAttention)


def test_encoder_of_the_port(tmp_path: Path) -> None:
    """Published on its own, without the prefix of the whole model."""
    tensors = tensors_of(GOLDEN / "avhubert_small.port.keys.tsv")
    alone = {name.removeprefix("avsr.encoder."): value for name, value in tensors.items() if "avsr.encoder." in name}
    found = load_avhubert(port_folder(tmp_path / "net", alone))
    assert isinstance(found, AVHubertEncoder)
    expected = encoder().state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in found.state_dict().items())


def test_converted_is_the_same_in_one_file(tmp_path: Path) -> None:
    tensors = tensors_of(GOLDEN / "avhubert_small.port.keys.tsv")
    source = port_folder(tmp_path / "net", tensors)
    convert(source, tmp_path / "net.safetensors")
    first, second = load_avhubert(source), load_avhubert(tmp_path / "net.safetensors")
    assert isinstance(first, CtcAttention)
    assert isinstance(second, CtcAttention)
    assert second.encoder.config == first.encoder.config
    states = first.state_dict(), second.state_dict()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert json.loads((tmp_path / "net.json").read_text())["kind"] == "avhubert"


def test_what_is_trained_from_scratch_is_read_again(tmp_path: Path) -> None:
    """The small front-end for lips has norms of the names that the port's decoder has."""
    tokenizer = word_tokenizer(["set red", "bin blue"])
    decoder = DecoderConfig(vocabulary=len(tokenizer.symbols), width=32, layers=1, heads=2, inner=64)
    trained = CtcAttention(AVHubertConfig.preset("tiny"), decoder)
    trained.tokenizer = tokenizer
    write_network("avhubert", trained, tmp_path / "net.safetensors")
    found = load_avhubert(tmp_path / "net.safetensors")
    assert isinstance(found, CtcAttention)
    assert found.tokenizer == tokenizer
    states = found.state_dict(), trained.state_dict()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[1])


def test_tokenizer_goes_through_conversion(tmp_path: Path) -> None:
    source = port_folder(tmp_path / "net", tensors_of(GOLDEN / "avhubert_small.port.keys.tsv"))
    tokenizer = Tokenizer(tuple(f"piece{number}" for number in range(40)), b"model", upper=True)
    assert load_avhubert(source, tokenizer).tokenizer == tokenizer  # type: ignore[union-attr]
    unigram(source)
    with pytest.raises(InputError, match=r"has 40 outputs, its tokenizer \d+ symbols"):
        load_avhubert(source)


def test_half_precision_is_read_as_single(tmp_path: Path) -> None:
    halved = {name: value.half() if value.is_floating_point() else value for name, value in pretrained().items()}
    found = load_avhubert(fairseq_file(tmp_path / "net.pt", halved))
    assert {value.dtype for value in found.parameters()} == {torch.float32}


def test_overlapping_tensors_get_memory_of_their_own(tmp_path: Path) -> None:
    tensors = pretrained()
    long = torch.arange(64 * 64 + 64).float()
    tensors["encoder.layers.0.self_attn.q_proj.weight"] = long.as_strided((64, 64), (1, 1))
    weight = load_avhubert(fairseq_file(tmp_path / "net.pt", tensors)).encoder.layers[0].self_attn.q_proj.weight  # type: ignore[union-attr,index]
    assert torch.equal(weight, long.as_strided((64, 64), (1, 1)))
    assert weight.is_contiguous()
    assert weight.untyped_storage().nbytes() == 64 * 64 * 4


class Malicious:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.marker),)


@pytest.mark.parametrize("legacy", [False, True])
def test_nothing_in_a_file_runs(legacy: bool, tmp_path: Path) -> None:
    content = {"args": None, "cfg": {}, "model": pretrained(), "task_state": Malicious(tmp_path / "ran")}
    torch.save(content, tmp_path / "net.pt", _use_new_zipfile_serialization=not legacy)
    with pytest.raises(InputError, match=r"net\.pt: wants to run (posix|nt)\.mkdir, which is refused"):
        load_avhubert(tmp_path / "net.pt")
    assert not (tmp_path / "ran").exists()


def without(part: str) -> dict[str, Tensor]:
    return {name: value for name, value in finetuned().items() if part not in name}


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        (without(TRUNK), rf"130 missing from the file: encoder\.{TRUNK}\.layer1\.0\.conv1\.weight"),
        (without("decoder.layers.1.fc2.bias"), r"1 missing from the file: decoder\.layers\.1\.fc2\.bias"),
        (without("feature_extractor_audio"), r"is no AV-HuBERT: it has no encoder\.feature_extractor_audio"),
        (finetuned() | {"decoder.more": torch.zeros(1)}, r"1 left over in the file: decoder\.more"),
        (
            finetuned() | {"decoder.layer_norm.bias": torch.zeros(3)},
            "decoder.layer_norm.bias is 3 in the file, 64 here",
        ),
        ({"linear.weight": torch.zeros(2, 2)}, "is no AV-HuBERT"),
        (
            finetuned() | {"decoder.layer_norm.bias": torch.zeros(64).int()},
            "bias holds torch.int32, which are no weights",
        ),
        (
            finetuned() | {"decoder.output_projection.weight": torch.zeros(40, 64)},
            "output weights are not its embedding",
        ),
    ],
)
def test_partial_and_other_files_are_refused(tensors: dict[str, Tensor], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        load_avhubert(fairseq_file(tmp_path / "net.pt", tensors))


def endless() -> list[Any]:
    """Lists that hold each other twice each: small in a file, without end in print."""
    found: list[Any] = ["a"]
    for _ in range(100):
        found = [found, found]
    return found


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layer_norm_first": False}, "layer_norm_first is False; only models with True"),
        ({"modality_fuse": "add"}, "modality_fuse is 'add'"),
        ({"conv_pos": torch.zeros(2)}, "conv_pos is a Tensor"),
        ({"conv_pos": endless()}, "conv_pos is a list"),
        ({"encoder_attention_heads": endless()}, r"heads of the encoder \(a list\)"),
        ({"activation_fn": "relu"}, "activation_fn is 'relu'"),
        ({"encoder_attention_heads": 0}, r"heads of the encoder \(0\) must be a number >= 1"),
        ({"encoder_attention_heads": "4"}, r"heads of the encoder \('4'\)"),
        ({"encoder_attention_heads": 5}, r"width \(64\) must be a multiple of heads \(5\)"),
    ],
)
def test_another_architecture_is_refused(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        load_avhubert(fairseq_file(tmp_path / "net.pt", finetuned(), **changes))


@pytest.mark.parametrize("place", ["config.json", "metadata"])
def test_a_description_too_deep_to_read_is_refused(place: str, tmp_path: Path) -> None:
    source = port_folder(tmp_path, {"a": torch.zeros(1)})
    if place == "metadata":
        source = source / "net.safetensors"
        save_file({"a": torch.zeros(1)}, source, {"config": "[" * 100_000})
    else:
        (source / place).write_text("[" * 100_000)
    with pytest.raises(InputError, match=r"cannot be read as JSON|description is damaged"):
        load_avhubert(source)


def test_another_decoder_is_refused(tmp_path: Path) -> None:
    path = fairseq_file(tmp_path / "net.pt", finetuned())
    content = torch.load(path, weights_only=True)
    content["cfg"]["model"]["decoder_normalize_before"] = False
    torch.save(content, path)
    with pytest.raises(InputError, match="decoder_normalize_before is False; only models with True"):
        load_avhubert(path)


def test_heads_of_a_decoder_are_not_guessed(tmp_path: Path) -> None:
    torch.save(finetuned(), tmp_path / "net.pt")
    with pytest.raises(InputError, match="does not tell how many heads its decoder has"):
        load_avhubert(tmp_path / "net.pt")


def test_claims_of_huge_sizes_are_refused(tmp_path: Path) -> None:
    tensors = finetuned() | {"decoder.embed_tokens.weight": torch.zeros(64).expand(1 << 20, 64)}
    with pytest.raises(InputError, match=r"vocabulary \(1048576\) must be from 1 to"):
        load_avhubert(fairseq_file(tmp_path / "net.pt", tensors))


@pytest.mark.parametrize(
    ("config", "message"),
    [("{", "cannot be read as JSON"), ("[]", "must be a JSON object"), (None, "cannot be read as")],
)
def test_a_damaged_config_is_refused(config: str | None, message: str, tmp_path: Path) -> None:
    source = port_folder(tmp_path, {"a": torch.zeros(1)})
    (source / "config.json").unlink() if config is None else (source / "config.json").write_text(config)
    with pytest.raises(InputError, match=message):
        load_avhubert(source)


def test_a_folder_without_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"neither model\.safetensors nor pytorch_model\.bin"):
        load_avhubert(tmp_path)


@torch.no_grad()
def test_the_fine_tuned_golden_file() -> None:
    """Its tensors, what they say, and the dictionary and sentencepiece model in its pickle."""
    if not TINY.exists():
        pytest.skip("needs ../shared/golden")
    found, told, numbers = (
        load_avhubert(TINY),
        json.loads((GOLDEN / "fairseq_finetuned_tiny.json").read_text()),
        golden("fairseq_finetuned_tiny"),
    )
    assert isinstance(found, Seq2Seq)
    features = found.encoder(*inputs("ckpt.audio", "ckpt.video", 1, 6))
    assert largest(features, numbers["encoder_out"]) < TOLERANCE
    assert largest(found.decoder(torch.from_numpy(numbers["prefix"]), features), numbers["logits"]) < TOLERANCE
    tokenizer = found.tokenizer
    assert tokenizer is not None
    assert list(tokenizer.symbols) == told["dictionary_symbols"]
    assert [*tokenizer.encode(told["text"]), told["eos"]] == told["ids_with_eos"]
    assert tokenizer.decode(told["ids_with_eos"]) == told["decoded"]
    state = found.state_dict()
    for name, (total, absolute) in told["checksums"].items():
        if "mask_emb" not in name:
            value = state[name.replace("encoder.w2v_model.", "encoder.")].double()
            assert [float(value.sum()), float(value.abs().sum())] == pytest.approx([total, absolute], abs=1e-6)


def test_the_partial_golden_file_is_refused_naming_the_trunk() -> None:
    if not LEGACY.exists():
        pytest.skip("needs ../shared/golden")
    with pytest.raises(
        InputError, match=rf"52 of 182 tensors match.*130 missing from the file: {TRUNK}\.layer1\.0\.conv1"
    ):
        load_avhubert(LEGACY)


@pytest.mark.parametrize("size", ["base", "large"])
@pytest.mark.parametrize("layout", ["pretrain", "seq2seq", "port"])
def test_published_names_and_shapes_fit(
    size: str, layout: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every tensor of the published tables, without memory for them."""
    path = SHARED / f"avhubert_{size}.{layout}.keys.tsv"
    if not path.exists():
        pytest.skip("needs ../shared/golden")
    from avs.avsr import avhubert_checkpoints as reader

    tensors = {name: torch.zeros(()).expand(shape) for name, (shape, _) in table(path).items()}
    heads = {
        "encoder": 12 if size == "base" else 16,
        "decoder": {"seq2seq": {"base": 4, "large": 8}}.get(layout, {}).get(size, 0),
    }
    known = {part: number for part, number in heads.items() if number} | (
        {"decoder": 12} if (size, layout) == ("base", "port") else {}
    )
    content = reader._Content(reader._named(tensors, path), known, None)
    monkeypatch.setattr(reader, "_read", lambda _: content)
    monkeypatch.setattr(reader, "_owned", lambda value: value)
    found = load_avhubert(path)
    config = found.config if isinstance(found, AVHubertEncoder) else found.encoder.config
    assert config == AVHubertConfig.preset(size)  # type: ignore[arg-type]
    if isinstance(found, Seq2Seq):
        layers, width, inner, head = (6, 768, 3072, 4) if size == "base" else (9, 1024, 4096, 8)
        assert found.decoder.config == DecoderConfig(1000, width, layers, head, inner, "fairseq")
    if isinstance(found, CtcAttention) and size == "large":
        assert found.decoder.config == DecoderConfig()
