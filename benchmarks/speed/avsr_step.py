"""A step of the joint recipe by the product's own loop, beside one clip after another through plain modules."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from avs.avsr.avhubert import MEAN, SIDE, STD, AVHubertConfig
from avs.avsr.batch import Batch
from avs.avsr.decoders import DecoderConfig
from avs.avsr.fbank import log_fbank
from avs.avsr.model import AvsrModel
from avs.avsr.recognizers import CtcAttention
from avs.avsr.seanet import SAMPLES_PER_FRAME, VISUAL_DIM, SEANet
from avs.avsr.train import FitParams, fit
from avs.core.execute import one_thread
from benchmarks.plain_seanet import plain_forward
from benchmarks.speed.seanet import by_products, gradients
from benchmarks.speed.step import Clock, Found, Limit, Step

FRAMES = (50, 52, 54, 56)  # of a bucket of clips of about one length: 2 s
TOKENS, VOCABULARY, STEPS = 12, 100, 1
_P = FitParams(epochs=1, max_steps=STEPS, lr=1e-4, schedule="linear", warmup=0.0, clip=0.0, log_every=1)


class System(AvsrModel):
    """Nothing is dropped, and batch norms stand still: a clip by itself would meet other statistics than its batch."""

    def train(self, mode: bool = True) -> System:
        super().train(mode)
        for module in self.modules():
            if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
                module.eval()
        return self


class Noise:
    """The batch, of what has the shapes of speech."""

    def epoch(self, _number: int) -> range:
        return range(STEPS)

    def batch(self, order: int, _epoch: int) -> Batch:
        draw, clips, longest = torch.Generator().manual_seed(order), len(FRAMES), max(FRAMES)
        there = torch.arange(longest) < torch.tensor(FRAMES)[:, None]
        sound = 0.1 * torch.randn(clips, SAMPLES_PER_FRAME * longest, generator=draw)
        return Batch(
            clips=tuple(map(str, range(clips))),
            frames=FRAMES,
            mixture=sound * there.repeat_interleave(SAMPLES_PER_FRAME, dim=1),
            voice=sound,
            lips=torch.randint(0, 256, (clips, longest, SIDE, SIDE), generator=draw, dtype=torch.uint8),
            muse=torch.randn(clips, longest, VISUAL_DIM, generator=draw),
            seanet=torch.ones(clips, dtype=torch.bool),
            labels=torch.randint(1, VOCABULARY - 1, (clips, TOKENS), generator=draw),
            words=torch.full((clips, longest), -1),
        )


def system() -> System:
    """SEANet in its published sizes, before the recognizer that two cores can train."""
    torch.manual_seed(0)
    encoder = AVHubertConfig.preset("tiny", dropout=0.0, attention_dropout=0.0, modality_dropout=0.0)
    decoder = DecoderConfig(vocabulary=VOCABULARY, width=128, layers=2, heads=4, inner=512, dropout=0.0)
    return System(CtcAttention(encoder, decoder), SEANet())


def ours(folder: Path, clock: Clock) -> Found:
    """The clock stops with the optimizer's step: `fit` then writes the weights."""
    model, stopped = system(), register_optimizer_step_post_hook(lambda *_: clock.__exit__())
    with one_thread(), _kept_gradients(model, folder / "ours.npy"), TemporaryDirectory(dir=folder) as place:
        clock.__enter__()  # as the stage has it: clips are shared out to cores, not an LSTM's steps
        fitted = fit(model, model, Noise(), _P, Path(place))
    stopped.remove()
    return {"loss": fitted.history[0]["loss"]}


def alternative(folder: Path, clock: Clock) -> Found:
    """Also says how far the gradients that `ours` left in the folder are from those found here."""
    model, batch = system().train(), Noise().batch(0, 0)
    optimizer: Any = torch.optim.AdamW(model.parameters(), lr=_P.lr, weight_decay=_P.weight_decay, fused=True)
    total = 0.0
    with _kept_gradients(model, folder / "alternative.npy"), clock:
        for row in range(len(batch)):
            loss = _plain_loss(model, batch, row) / len(batch)
            loss.backward()
            total += float(loss.detach())
        optimizer.step()
    mine, plain = (np.load(folder / f"{side}.npy") for side in ("ours", "alternative"))
    return {"loss": total, "gradients": float(np.linalg.norm(mine - plain) / np.linalg.norm(plain))}


@contextmanager
def _kept_gradients(model: System, path: Path) -> Iterator[None]:
    """All of a model's gradients are written, when the optimizer is about to use them."""
    hook = register_optimizer_step_pre_hook(lambda *_: np.save(path, gradients(model)))
    try:
        yield
    finally:
        hook.remove()


def _plain_loss(model: System, batch: Batch, row: int) -> Tensor:
    count = batch.frames[row]
    sound, lips = batch.mixture[row : row + 1, : count * SAMPLES_PER_FRAME], batch.lips[row : row + 1, :count]
    assert batch.muse is not None
    seanet: Any = model.seanet
    voice = plain_forward(seanet, sound, batch.muse[row : row + 1, :count])[0][-1]
    heard = log_fbank(voice, scale=model.recognizer.sound_scale)
    seen = ((lips.float() / 255 - MEAN) / STD)[:, None]
    encoded = model.recognizer.encoder(heard, seen)  # the same modules: they are plain enough
    return model.recognizer.loss_of(encoded, None, batch.labels[row : row + 1]).total


def check(ours: Found, alternative: Found) -> Found:
    """The loss within 1e-4, gradients within 1e-3, of their size."""
    loss = abs(ours["loss"] / alternative["loss"] - 1)
    assert max(10 * loss, alternative["gradients"]) < 1e-3, (loss, alternative)
    return {"loss": loss, "gradients": alternative["gradients"]}


def limit(ours: Found, alternative: Found) -> Limit:
    return by_products(FRAMES, alternative["seconds"])


STEP = Step(
    what=f"one step of AdamW: SEANet in its published sizes, log-fbank, AV-HuBERT (tiny), decoder, {len(FRAMES)} "
    "clips of 2 s of noise, by the stage's own loop",
    alternative_is="one clip after another, whole, through SEANet in plain modules, gradients added up, on all cores",
    goal=2.0,
    prepare=lambda folder: None,
    ours=ours,
    alternative=alternative,
    check=check,
    limit=limit,
)
