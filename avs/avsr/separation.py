"""SEANet by itself: its published objective, its sizes, and how much of a voice it gets out of a mixture."""

from __future__ import annotations

import warnings
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from avs.avsr.batch import Batch, Lips
from avs.avsr.fbank import log_fbank
from avs.avsr.recognizers import Loss
from avs.avsr.seanet import SAMPLES_PER_FRAME, SEANet, Stages, separate
from avs.core.errors import InputError
from avs.core.execute import exact_convolutions, one_thread
from avs.core.media import RATE
from avs.core.params import params
from avs.core.stats import paired_bootstrap

SIZES: Mapping[str, Mapping[str, int]] = {
    "published": {"N": 256, "L": 40, "B": 64, "H": 128, "K": 100, "R": 6, "head": 64},
    "tiny": {"N": 512, "L": 320, "B": 32, "H": 64, "K": 16, "R": 2, "head": 16},
}

_EPS = 1e-6  # as published, of sums of squares
_STILL = 1e-3  # a feature's deviation far below which it is noise


@params
class SeparationParams:
    """Of training SEANet by itself. Published: others 0.1, fbank 0, jitter 0, crop 100 (4 s).

    others: weight of the noise and of the earlier stages, beside the last voice's 1; fbank: weight of how far the
    last voice's log filter banks are from the true ones, since SI-SDR hears little but what is loud, and a recognizer
    the rest too; jitter: deviation of noise that is added to lip features, 0.2 where little data would be learnt by
    heart; crop: frames of each clip that a step hears, all of it where there are no more.
    """

    others: float = 0.1
    fbank: float = 0.0
    jitter: float = 0.0
    crop: int = 100

    def __post_init__(self) -> None:
        for name in ("others", "fbank", "jitter"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} ({getattr(self, name)}) must be >= 0")
        if self.crop < 1:
            raise ValueError(f"crop ({self.crop}) must be >= 1")


def si_sdr(found: Tensor, wanted: Tensor) -> Tensor:
    """Scale-invariant ratio of signal to distortion in dB, [...,S] -> [...]; differentiable, also at silence.

    With both at mean 0 and p = <found, wanted> wanted / |wanted|^2: 10 log10(|p|^2 / |found - p|^2) (Le Roux et al.,
    "SDR - half-baked or well done?", 2019). Silence has -60.
    """
    if found.shape[-1] != wanted.shape[-1]:
        raise InputError(f"found ({list(found.shape)}) and wanted ({list(wanted.shape)}) must be of one length")
    found, wanted = (x - x.mean(-1, keepdim=True) for x in (found, wanted))
    share = (found * wanted).sum(-1, keepdim=True) / (wanted.square().sum(-1, keepdim=True) + _EPS)
    part = share * wanted
    ratio = part.square().sum(-1) / ((found - part).square().sum(-1) + _EPS)
    return 10 * torch.log10(ratio + _EPS)


def objective(stages: Stages, voice: Tensor, noise: Tensor, others: float = 0.1) -> Loss:
    """Less the SI-SDR of the last voice, and `others` times that of the last noise and of both after earlier stages.

    voice, noise: [B,S], what the stages should have found. The mean over clips; where a clip has no noise, none of
    its noises counts. Source: SEANet's training code (arXiv 2404.18501).
    """
    of_voice = si_sdr(stages.speech, voice)  # [R,B]
    of_noise = si_sdr(stages.noise, noise) * noise.any(-1)
    last, rest = of_voice[-1], of_voice[:-1].sum(0) + of_noise.sum(0)
    parts = {"si_sdr": last.mean().detach(), "noise_si_sdr": of_noise[-1].mean().detach()}
    return Loss(-(last + others * rest).mean(), parts)


class Separation(nn.Module):
    """SEANet with its own objective: a batch -> its loss, which needs no words.

    Raises InputError for a batch with rows that do not go through SEANet: such clips have no features to learn from.
    """

    def __init__(self, seanet: SEANet, p: SeparationParams | None = None) -> None:
        super().__init__()
        self.seanet, self.params = seanet, p or SeparationParams()

    def forward(self, batch: Batch) -> Loss:
        if not batch.seanet.all():
            outside = [clip for clip, within in zip(batch.clips, batch.seanet.tolist(), strict=True) if not within]
            raise InputError(f"SEANet cannot learn from clips outside its scope: {', '.join(outside)}")
        p = self.params
        mixture, voice, visual = crops(batch, p.crop, p.jitter)
        stages = self.seanet(mixture, visual, stages=True)
        loss = objective(stages, voice, mixture - voice, p.others)
        if not p.fbank:
            return loss
        apart = (log_fbank(stages.speech[-1]) - log_fbank(voice)).abs().mean()
        return Loss(loss.total + p.fbank * apart, loss.parts | {"fbank": apart.detach()})


def listen_by_frequency(seanet: SEANet) -> SEANet:
    """Filters to start from, in place of random ones: windowed cosines and sines of both signs, and back.

    N / 4 frequencies from 0 on, 16000 / L Hz apart, each as the cosine and the sine of a lapped transform (Princen &
    Bradley 1986), so that with all L / 2 of them sound comes back as it went in; with less, without the highest.
    Raises InputError unless N is 4 times a number from 1 to L / 2.
    """
    filters, length = (seanet.encoder.conv1d_U.weight.shape[axis] for axis in (0, 2))
    if filters % 4 or not 1 <= filters // 4 <= length // 2:
        raise InputError(f"N ({filters}) must be 4 times a number from 1 to L / 2 ({length // 2})")
    time = torch.arange(length) + 0.5
    window = torch.sin(torch.pi * time / length) * 2 / length**0.5
    phase = 2 * torch.pi / length * (torch.arange(filters // 4)[:, None] + 0.5) * (time + length / 4)
    waves = torch.cat([phase.cos(), phase.sin()]) * window
    bank = torch.cat([waves, -waves])
    with torch.no_grad():
        seanet.encoder.conv1d_U.weight.copy_(bank[:, None])
        seanet.decoder.basis_signals.weight.copy_(bank.T / 2)  # half of it from the cosines, half from the sines
    return seanet


def standardized(features: np.ndarray) -> np.ndarray:
    """MuSE's features of one clip, float32 [T,512], each at mean 0 and deviation 1 over it; 0 where still.

    For untrained or other front-ends than the published one: what moves is a tenth of what such features are, and
    SEANet, which takes them as they come, learns more slowly to see it. Published weights were trained without.
    """
    moving = features - features.mean(axis=0)
    return moving / (features.std(axis=0) + np.float32(_STILL))


def crops(batch: Batch, frames: int, jitter: float = 0.0) -> tuple[Tensor, Tensor, Tensor]:
    """Mixture, voice [B,640 n] and MuSE features [B,n,512] of n = min(frames, T) frames from a place drawn by clip.

    jitter: deviation of noise added to features. A clip that is shorter starts again from its beginning: zeros would
    change all of SEANet's result. Draws hang on PyTorch's generator and the clip's key only, so that they are the
    same however a batch is shared out.
    """
    muse = muse_of(batch)
    count, seed = min(frames, muse.shape[1]), int(torch.randint(2**31, ()))
    draws = [np.random.default_rng([seed, zlib.crc32(clip.encode())]) for clip in batch.clips]
    starts = [draw.integers(max(0, own - count) + 1) for draw, own in zip(draws, batch.frames, strict=True)]
    lengths = torch.tensor(batch.frames)[:, None]
    places = ((torch.tensor(starts)[:, None] + torch.arange(count)) % lengths).to(muse.device)
    rows = torch.arange(len(batch), device=muse.device)[:, None]
    mixture, voice = (
        x.unflatten(1, (-1, SAMPLES_PER_FRAME))[rows, places].flatten(1) for x in (batch.mixture, batch.voice)
    )
    visual = muse[rows, places]
    if jitter:
        noise = np.stack([draw.standard_normal(visual.shape[1:], np.float32) for draw in draws])
        visual = visual + jitter * torch.from_numpy(noise).to(visual)
    return mixture, voice, visual


def muse_of(batch: Batch) -> Tensor:
    if batch.muse is None:
        raise InputError("SEANet needs MuSE's features, and this batch has none")
    return batch.muse


@dataclass(frozen=True)
class Separated:
    """SI-SDR in dB and STOI of one clip, before and after. NaN: STOI of too little speech (0.4 s)."""

    clip: str
    si_sdr_before: float
    si_sdr: float
    stoi_before: float
    stoi: float

    def gain(self, measure: str) -> float:
        return getattr(self, measure) - getattr(self, f"{measure}_before")


def judge(seanet: SEANet, batches: Iterable[Batch], lips: Lips = "right") -> list[Separated]:
    """What SEANet makes of each clip that goes through it; it is left in the mode it was in."""
    was, device = seanet.training, next(seanet.parameters()).device
    seanet.eval()
    try:
        with torch.inference_mode(), one_thread(), exact_convolutions():
            return [row for batch in batches for row in _judged(seanet, batch.to(device).steered(lips))]
    finally:
        seanet.train(was)


def _judged(seanet: SEANet, batch: Batch) -> list[Separated]:
    within = batch.seanet.nonzero()[:, 0].tolist()
    if not within:
        return []
    batch = batch.rows(within)
    found = separate(seanet, batch.mixture, muse_of(batch), batch.frames)
    rows = []
    for row, (clip, frames) in enumerate(zip(batch.clips, batch.frames, strict=True)):
        sounds = (x[row, : frames * SAMPLES_PER_FRAME].double().cpu() for x in (batch.mixture, found, batch.voice))
        before, after, voice = sounds
        of = [float(si_sdr(x, voice)) for x in (before, after)] + [intelligibility(x, voice) for x in (before, after)]
        rows.append(Separated(clip, *of))
    return rows


def intelligibility(found: Tensor, wanted: Tensor) -> float:
    """STOI (Taal et al. 2011) of sounds [S] at 16 kHz, in [0, 1] as a rule; NaN where too little is said."""
    from pystoi import stoi  # slow to import, and every stage imports this module for its parameters

    with warnings.catch_warnings():
        warnings.filterwarnings("error", "Not enough STFT frames", RuntimeWarning)
        try:
            return float(stoi(wanted.numpy(), found.numpy(), RATE))
        except RuntimeWarning:
            return float("nan")


def interval(values: Sequence[float]) -> dict[str, float]:
    """{mean, low, high} over clips with 95 % interval; NaN is left out."""
    known = [value for value in values if not np.isnan(value)]
    if not known:
        return dict.fromkeys(("mean", "low", "high"), float("nan"))
    mean, low, high, _ = paired_bootstrap(known, [0.0] * len(known))
    return {"mean": mean, "low": low, "high": high}
