"""SEANet: the published numbers and names, what is left out without a difference, lengths, frozen statistics."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from golden_fill import fill_array, wave

from avs.avsr import seanet
from avs.avsr.seanet import SEANet, Stages, separate
from avs.core.errors import InputError
from avs.core.execute import one_thread
from benchmarks.plain_seanet import plain_forward

GOLDEN = np.load(Path(__file__).parent / "golden/seanet.npz")
SHARED = Path(__file__).resolve().parents[2] / "shared/golden/dev/seanet.npz"
TOLERANCE = 5e-4  # values up to 8.6; float32 itself is 9e-5 from float64
NAMES_AND_SHAPES = "4e5dd995f3936fcf9ab803caae670344fe945031692807e491b50abd6c3089bb"  # sha256 of the sorted list


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """The steps of an LSTM are small: on a busy machine, threads that wait for each other take many times as long."""
    with one_thread():
        yield


@cache
def network() -> SEANet:
    found = SEANet().eval()
    state = {name: torch.from_numpy(fill_array(name, value.shape)) for name, value in found.state_dict().items()}
    found.load_state_dict(state)
    return found


def small() -> SEANet:
    torch.manual_seed(0)
    return SEANet(N=16, L=40, B=8, H=4, K=20, R=3).eval()


def inputs(frames: int, batch: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    case = f"T{frames}.B{batch}"
    mixture = wave(f"seanet.audio.{case}", (batch, 640 * frames), scale=0.5)
    return torch.from_numpy(mixture), torch.from_numpy(wave(f"seanet.visual.{case}", (batch, frames, 512)))


def test_names_and_shapes_are_the_published_ones() -> None:
    state = network().state_dict()
    assert len(state) == 755
    assert sum(parameter.numel() for parameter in network().parameters()) == 8_700_422
    lines = sorted(f"{name} {','.join(map(str, value.shape))}" for name, value in state.items())
    assert hashlib.sha256("\n".join(lines).encode()).hexdigest() == NAMES_AND_SHAPES


@pytest.mark.parametrize(("frames", "batch"), [(3, 1), (3, 2), (13, 1), (13, 2)])
def test_parity_with_the_published_network(frames: int, batch: int) -> None:
    """Voice and noise of all six stages. Largest difference seen: 8e-5."""
    case = f"T{frames}_B{batch}"
    golden = np.load(SHARED) if SHARED.exists() else GOLDEN
    if f"{case}.speech.norm" not in golden:
        pytest.skip("needs ../shared/golden")
    with torch.inference_mode():
        stages = network()(*inputs(frames, batch), stages=True)
    for name, found in stages._asdict().items():
        parts = {"first200": found[..., :200], "last200": found[..., -200:], "every37": found[..., ::37]}
        parts |= {"norm": found.norm(dim=-1), "sum": found.sum(-1)}
        for part, values in parts.items():
            tolerance = TOLERANCE * (10 if part == "sum" else 1)  # of up to 8,320 samples
            expected = golden[f"{case}.{name}.{part}"]
            np.testing.assert_allclose(values, expected, rtol=0, atol=tolerance, err_msg=f"{name} {part}")


def test_the_copied_numbers_are_the_shared_ones() -> None:
    if not SHARED.exists():
        pytest.skip("needs ../shared/golden")
    shared = np.load(SHARED)
    for name in GOLDEN:
        np.testing.assert_array_equal(GOLDEN[name], shared[name])


def test_the_last_voice_alone_is_that_of_all_stages() -> None:
    with torch.inference_mode():
        voice, stages = network()(*inputs(13)), network()(*inputs(13), stages=True)
    torch.testing.assert_close(voice, stages.speech[-1], rtol=0, atol=0)
    assert stages.speech.shape == stages.noise.shape == (6, 1, 8320)


def test_gradients_reach_what_the_last_voice_needs() -> None:
    """Of the published 755 tensors 92, of 846,656 numbers, are without."""
    parameters = list(network().parameters())
    gradients = torch.autograd.grad(network()(*inputs(3)).square().sum(), parameters, allow_unused=True)
    without = [p.numel() for p, gradient in zip(parameters, gradients, strict=True) if gradient is None]
    assert (len(without), sum(without)) == (92, 846_656)
    assert all(gradient.isfinite().all() for gradient in gradients if gradient is not None)


@pytest.mark.parametrize("size", [64, 10**9], ids=["slices", "whole"])
@pytest.mark.parametrize("train", [False, True])
def test_equals_the_plain_graph_and_its_gradients(size: int, train: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """In float64, in training with the statistics of the batch, slice by slice and at once."""
    monkeypatch.setattr(seanet, "_SLICE", size)
    model = small().double().train(train)
    mixture, visual = (x.double() for x in inputs(5, 2))
    found, expected = model(mixture, visual, stages=True), Stages(*plain_forward(model, mixture, visual))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)
    gradients = [
        torch.autograd.grad(stages.speech.square().sum(), list(model.parameters()), materialize_grads=True)
        for stages in (found, expected)
    ]
    for own, plain in zip(*gradients, strict=True):
        torch.testing.assert_close(own, plain, rtol=1e-6, atol=1e-9)


def test_output_follows_the_scale_of_the_input_and_autocast_changes_nothing() -> None:
    model, (mixture, visual) = small(), inputs(3)
    with torch.inference_mode():
        voice = model(mixture, visual)
        torch.testing.assert_close(model(10 * mixture, visual), 10 * voice, rtol=1e-4, atol=1e-5)
        with torch.autocast("cpu", torch.bfloat16):
            torch.testing.assert_close(model(mixture, visual.half().float()), model(mixture, visual), rtol=0, atol=1e-2)
            assert torch.equal(model(mixture, visual), voice)


@pytest.mark.parametrize("frames", [1, 2, 4, 25])
def test_any_number_of_frames(frames: int) -> None:
    with torch.inference_mode():
        assert small()(*inputs(frames)).shape == (1, 640 * frames)


def test_rows_of_a_padded_batch_are_what_they_are_alone() -> None:
    model, (mixture, visual) = small(), inputs(9, 4)
    with torch.inference_mode():
        found = separate(model, mixture, visual, [9, 4, 9, 7])
        for row, count in enumerate([9, 4, 9, 7]):
            alone = model(mixture[row : row + 1, : 640 * count], visual[row : row + 1, :count])
            torch.testing.assert_close(found[row : row + 1, : 640 * count], alone, rtol=0, atol=1e-5)
            assert (found[row, 640 * count :] == 0).all()


def test_a_frozen_network_stays_as_it_is() -> None:
    model = torch.nn.ModuleDict({"seanet": small().train().freeze()})
    mixture, visual = inputs(5)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    voice = model["seanet"](mixture, visual)
    model.train()
    assert torch.equal(model["seanet"](mixture.requires_grad_(), visual), voice)
    assert not model["seanet"].training
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    unfrozen = small().train()
    unfrozen(mixture, visual)
    assert not torch.equal(unfrozen.state_dict()["separator.cross.1.inter_cross.norm1.running_mean"], torch.zeros(8))


@pytest.mark.parametrize(
    ("mixture", "visual", "message"),
    [
        ((1, 1919), (1, 3, 512), r"^Audio/MuSE length mismatch: wav=1919, expected=1920$"),
        ((1, 2560), (1, 3, 512), r"^Audio/MuSE length mismatch: wav=2560, expected=1920$"),
        ((1, 0), (1, 0, 512), r"^Invalid MuSE/SEANet input lengths: wav=0, muse=0$"),
        ((1, 640), (1, 0, 512), r"^Invalid MuSE/SEANet input lengths: wav=640, muse=0$"),
        ((2, 640), (1, 1, 512), r"must be \[B,S\] and \[B,T,512\]"),
        ((1, 640), (1, 1, 256), r"must be \[B,S\] and \[B,T,512\]"),
        ((1, 1, 640), (1, 1, 512), r"must be \[B,S\] and \[B,T,512\]"),
    ],
)
def test_refuses_lengths_that_do_not_belong_together(
    mixture: tuple[int, ...], visual: tuple[int, ...], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        small()(torch.zeros(mixture), torch.zeros(visual))


def test_refuses_impossible_options() -> None:
    with pytest.raises(InputError, match=r"L \(41\) must be twice a divisor of 640"):
        SEANet(L=41)
    with pytest.raises(InputError, match=r"R \(0\) and head \(64\) must be >= 1"):
        SEANet(R=0)
    with pytest.raises(InputError, match=r"frames \(\[3, 4\]\) must be from 1 to 3"):
        separate(small(), *inputs(3, 2), [3, 4])
