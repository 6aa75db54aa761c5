"""AV-HuBERT's encoder: the original's and the port's numbers, padding, dropout of a modality, refusals."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
import torch
from avhubert_golden import SHARED, SMALL, TOLERANCE, filled, golden, inputs, largest, padding, table

from avs.avsr.avhubert import AVHubertConfig, AVHubertEncoder, Preset
from avs.core.errors import InputError
from avs.core.execute import one_thread


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """The networks are small: on a busy machine, threads that wait for each other take many times as long."""
    with one_thread():
        yield


@cache
def network() -> AVHubertEncoder:
    return filled(AVHubertEncoder(SMALL))


@pytest.mark.parametrize("source", ["avhubert_encoder", "avhubert_encoder_port"])
@pytest.mark.parametrize("case", ["av", "audio", "video", "av_pad", "audio_pad", "video_pad"])
@torch.no_grad()
def test_original_and_port_agree(case: str, source: str) -> None:
    known = golden("avhubert_encoder")
    clips, frames = known[f"{case}.shape"].tolist()
    heard, seen = inputs(f"avhubert.audio.{case}", f"avhubert.video.{case}", clips, frames)
    audio, video = (None if case.startswith("video") else heard), (None if case.startswith("audio") else seen)
    mask = padding(known[f"{case}.lengths"]) if case.endswith("_pad") else None
    assert largest(network()(audio, video, mask), golden(source)[f"{case}.out"]) < TOLERANCE
    if f"{case}.fused_norm" in known:
        fused = network().layer_norm(network().fuse(audio, video))[:, :3]
        assert largest(fused, known[f"{case}.fused_norm"]) < TOLERANCE


@torch.no_grad()
def test_lips_that_were_seen_give_the_same() -> None:
    heard, seen = inputs("avhubert.audio.av", "avhubert.video.av", 2, 3)
    found = network().see(seen)
    assert torch.equal(network()(heard, found), network()(heard, seen))
    with pytest.raises(InputError, match=rf"or \[B,T,{SMALL.width}\] where they were seen"):
        network()(heard, found[..., 1:])


@torch.no_grad()
def test_original_agrees_in_24_layers() -> None:
    known = golden("avhubert_encoder_deep24")
    deep = filled(AVHubertEncoder(AVHubertConfig(width=64, layers=24, heads=4, inner=128)))
    found = deep(*inputs("deep.audio", "deep.video", 2, 30), padding(known["lengths"]))
    assert largest(found, known["out"]) < TOLERANCE


@torch.no_grad()
def test_a_clip_in_a_padded_batch_is_what_it_is_alone() -> None:
    audio, video = inputs("batch.audio", "batch.video", 2, 9)
    audio[1, 5:], video[1, :, 5:] = 0, 0
    together = network()(audio, video, padding([9, 5]))
    alone = network()(audio[1:, :5], video[1:, :, :5])
    assert largest(together[1:, :5], alone) < TOLERANCE


@torch.no_grad()
def test_a_long_clip_goes_through_the_trunk_in_parts() -> None:
    _, video = inputs("long.audio", "long.video", 1, 70)
    front = network().feature_extractor_video["resnet"]
    parts = front(video)[:, 60:68]
    assert largest(front(video[:, :, 58:])[:, 2:10], parts) < TOLERANCE


@pytest.mark.parametrize(
    ("preset", "millions"),
    [("tiny", 1), ("base", 103), ("large", 325)],
)
def test_presets_have_the_published_sizes(preset: Preset, millions: int) -> None:
    with torch.device("meta"):
        found = AVHubertEncoder(AVHubertConfig.preset(preset))
    assert round(sum(value.numel() for value in found.parameters()) / 1e6) == millions


@pytest.mark.parametrize("preset", ["base", "large"])
def test_names_and_shapes_are_the_published_ones(preset: Preset) -> None:
    path = SHARED / f"avhubert_{preset}.pretrain.keys.tsv"
    if not path.exists():
        pytest.skip("needs ../shared/golden")
    with torch.device("meta"):
        found = AVHubertEncoder(AVHubertConfig.preset(preset)).state_dict()
    published = {name: shape for name, (shape, _) in table(path).items()}
    extra = {"mask_emb", "label_embs_concat", "final_proj.weight", "final_proj.bias"}
    assert {name: tuple(value.shape) for name, value in found.items()} == {
        name: shape for name, shape in published.items() if name not in extra
    }


@pytest.mark.parametrize(
    ("modality", "audio", "lost"), [(0.0, 0.5, {"none"}), (1.0, 1.0, {"audio"}), (1.0, 0.0, {"video"})]
)
def test_training_drops_a_modality_as_told(modality: float, audio: float, lost: set[str]) -> None:
    config = AVHubertConfig(32, 1, 2, 32, modality_dropout=modality, audio_dropout=audio)
    heard, seen = inputs("drop.audio", "drop.video", 1, 3)
    assert _lost(AVHubertEncoder(config).train(), heard, seen) == lost
    assert _lost(AVHubertEncoder(config).eval(), heard, seen) == {"none"}


def test_shares_of_dropped_modalities() -> None:
    torch.manual_seed(0)
    kept = AVHubertEncoder(AVHubertConfig(16, 1, 1, 16, modality_dropout=0.5, audio_dropout=0.25))
    draws = [kept._without_one(torch.zeros(1), torch.zeros(1)) for _ in range(2000)]
    both = sum(a is not None and v is not None for a, v in draws) / 2000
    sound = sum(a is None for a, _ in draws) / 2000
    assert both == pytest.approx(0.5, abs=0.05)  # four standard errors
    assert sound == pytest.approx(0.125, abs=0.03)


def _lost(network: AVHubertEncoder, audio: torch.Tensor, video: torch.Tensor) -> set[str]:
    lost = set()
    for _ in range(5):
        sides = network.fuse(audio, video).chunk(2, dim=-1)
        silent = [name for name, side in zip(("audio", "video"), sides, strict=True) if not side.any()]
        lost.update(silent or ["none"])
    return lost


def test_layers_are_dropped_in_training_only() -> None:
    config = AVHubertConfig(16, 2, 1, 16, dropout=0, attention_dropout=0, layer_dropout=0.999, modality_dropout=0)
    network = AVHubertEncoder(config).train()
    x = torch.randn(1, 4, 16)
    bare = network.encoder.layer_norm(x + network.encoder.pos_conv(x.transpose(1, 2)).transpose(1, 2))
    torch.manual_seed(1)
    assert largest(network.encoder(x, None), bare.detach()) < TOLERANCE
    assert largest(network.eval().encoder(x, None), bare.detach()) > 0.01


def test_gradients_reach_both_front_ends() -> None:
    network = AVHubertEncoder(AVHubertConfig(16, 1, 1, 16, modality_dropout=0)).train()
    network(*inputs("grad.audio", "grad.video", 2, 3), padding([3, 2])).sum().backward()
    assert all(value.grad is not None and bool(value.grad.isfinite().all()) for value in network.parameters())


HEARD, SEEN = torch.zeros(2, 5, 104), torch.zeros(2, 1, 5, 88, 88)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((None, None), "needs sound or lips"),
        ((torch.zeros(2, 5, 26), None), r"sound \(\[2, 5, 26\]\) must be \[B,T,104\]"),
        ((None, torch.zeros(2, 1, 5, 96, 96)), r"lips .* must be \[B,1,T,88,88\]"),
        ((HEARD, SEEN[:, :, :4]), r"sound \(2, 5\) and lips \(2, 4\) differ"),
        ((HEARD[:, :0], None), "2 clips of 0 frames"),
        ((HEARD, SEEN, padding([5, 4]).int()), "must be bool"),
        ((HEARD, SEEN, padding([5, 4], 6)), r"must be bool \[2, 5\]"),
        ((HEARD, SEEN, padding([5, 0])), "leaves a clip without a frame"),
    ],
)
def test_refuses_what_does_not_fit(given: tuple[Any, ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        network()(*given)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"width": 100}, r"width \(100\) must be a multiple of heads \(12\) and 16"),
        ({"layers": 0}, r"layers \(0\) must be >= 1"),
        ({"dropout": 1.0}, r"dropout \(1\) must be in \[0, 1\)"),
        ({"audio_dropout": -0.1}, r"audio_dropout \(-0.1\) must be in"),
    ],
)
def test_refuses_settings(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        AVHubertConfig(**settings)


def test_refuses_an_unknown_preset() -> None:
    with pytest.raises(InputError, match=r"preset \('huge'\) must be one of tiny, base, large"):
        AVHubertConfig.preset("huge")  # type: ignore[arg-type]
