"""SEANet's gradients of a batch of mixtures of different lengths, beside a loop over whole clips in plain modules."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from avs.avsr.seanet import SAMPLES_PER_FRAME, VISUAL_DIM, SEANet, separate
from avs.avsr.separation import si_sdr
from avs.core.execute import one_thread
from benchmarks.plain_seanet import plain_forward
from benchmarks.speed.limits import gemm_gflops
from benchmarks.speed.step import Clock, Found, Limit, Step, peak_mib

FPS = 25
FRAMES = (50, 75, 125)  # of the batch's clips: 2 to 5 s
GROWTH = (2, 8, 32)  # seconds of one clip, whose voice is found without gradients


def given(frames: tuple[int, ...] = FRAMES) -> tuple[SEANet, Tensor, Tensor, Tensor]:
    """The published sizes, random; mixtures and voices [B,640 T] and lip features [B,T,512] of noise."""
    torch.manual_seed(0)
    longest = max(frames)
    model = SEANet().train()
    mixture, voice = 0.1 * torch.randn(2, len(frames), longest * SAMPLES_PER_FRAME)
    return model, mixture, voice, torch.randn(len(frames), longest, VISUAL_DIM)


def together(model: SEANet, mixture: Tensor, voice: Tensor, visual: Tensor, frames: tuple[int, ...]) -> list[Tensor]:
    """The voices of a batch, and in the model the gradients of their SI-SDR, as the stage does it."""
    with one_thread():
        found = separate(model, mixture, visual, frames)
        voices = [row[: count * SAMPLES_PER_FRAME] for row, count in zip(found, frames, strict=True)]
        sum(_loss(own, wanted, len(frames)) for own, wanted in zip(voices, voice, strict=True)).backward()
    return voices


def one_by_one(model: SEANet, mixture: Tensor, voice: Tensor, visual: Tensor, frames: tuple[int, ...]) -> list[Tensor]:
    """The same, one clip at a time, on all cores."""
    voices = []
    for row, count in enumerate(frames):
        sound, lips = mixture[row : row + 1, : count * SAMPLES_PER_FRAME], visual[row : row + 1, :count]
        found = plain_forward(model, sound, lips)[0][-1, 0]
        _loss(found, voice[row], len(frames)).backward()
        voices.append(found)
    return voices


def _loss(found: Tensor, wanted: Tensor, clips: int) -> Tensor:
    return -si_sdr(found, wanted[: len(found)]) / clips


def ours(folder: Path, clock: Clock) -> Found:
    found = _side(folder / "ours.npz", clock, together)
    return found | {"growth": {str(seconds): grown(seconds) for seconds in GROWTH}}


def grown(seconds: int) -> Found:
    """The voice of one clip of that length, by a process of its own in one thread."""
    command = [sys.executable, "-m", "benchmarks.speed.seanet", str(seconds)]
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)


def alternative(folder: Path, clock: Clock) -> Found:
    """Also says how far what `ours` left in the folder is from what it found."""
    found = _side(folder / "alternative.npz", clock, one_by_one)
    with np.load(folder / "ours.npz") as mine, np.load(folder / "alternative.npz") as plain:
        return found | {name: _apart(mine[name], plain[name]) for name in ("voices", "gradients")}


def _side(path: Path, clock: Clock, work: Callable[..., list[Tensor]]) -> Found:
    model, *rest = given()
    with clock:
        voices = work(model, *rest, FRAMES)
    np.savez(path, voices=torch.cat(voices).detach().numpy(), gradients=gradients(model))
    return {}


def gradients(model: nn.Module) -> np.ndarray:
    """Of all parameters side by side; zeros where there are none."""
    parts = [torch.zeros_like(value) if value.grad is None else value.grad for value in model.parameters()]
    return torch.cat([part.flatten() for part in parts]).numpy()


def _apart(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.linalg.norm(one - other) / np.linalg.norm(other))


def check(ours: Found, alternative: Found) -> Found:
    """Voices within 1e-4, all gradients within 1e-3, of their size."""
    assert max(10 * alternative["voices"], alternative["gradients"]) < 1e-3, alternative
    return {name: alternative[name] for name in ("voices", "gradients")} | {"growth": ours["growth"]}


def limit(ours: Found, alternative: Found) -> Limit:
    return by_products(FRAMES, alternative["seconds"])


def by_products(frames: Sequence[int], alternative: float) -> Limit:
    """By the products of matrices that SEANet's last voice needs, three times for gradients; 2 a multiply-add.

    A second is 1600 positions: 800 frames in two chunks each. At one of them 24 LSTMs (6 stages, voice and noise,
    within and across chunks) take 4 x 128 x (64 + 128) weights in each of two directions; 10 layers of attention
    project 64 numbers to 8 x 256 and 2 x 256 back to 64, and look twice, for voice and noise, at 100 places or at all
    chunks.
    """
    lstm, projections = 24 * 2 * 4 * 128 * (64 + 128), 10 * (64 * 8 * 256 + 2 * 256 * 64)
    looks = [5 * 4 * 2 * 256 * (100 + 16 * count / FPS) for count in frames]
    positions = [1600 * count / FPS for count in frames]
    work = 3 * 2 * sum(n * (lstm + projections + look) for n, look in zip(positions, looks, strict=True))
    rate = gemm_gflops(torch.float32, 2048, 192, 512) * 1e9
    why = f"{work / 1e12:.2f} TFLOP of LSTMs, projections and attention at {rate / 1e9:.0f} GFLOP/s of a large product"
    return Limit(
        alternative * rate / work, f"{why}; an LSTM's steps are products of few rows, at less than half of that"
    )


STEP = Step(
    what=f"SEANet's voice of mixtures of {', '.join(str(n // FPS) for n in FRAMES)} s, its SI-SDR, gradients; "
    "noise in the published sizes",
    alternative_is="the published graph in plain modules, one clip at a time and whole, all stages, on all cores",
    goal=2.0,
    prepare=lambda folder: None,
    ours=ours,
    alternative=alternative,
    check=check,
    limit=limit,
)


if __name__ == "__main__":
    seconds = int(sys.argv[1])
    model, *rest = given((seconds * FPS,))
    clock = Clock()
    with one_thread(), torch.inference_mode(), clock:
        model.eval()(rest[0], rest[2])
    took = {"seconds": round(clock.seconds, 2), "cpu_seconds": round(clock.cpu_seconds, 2)}
    print(json.dumps(took | {"peak_mib": peak_mib()}))
