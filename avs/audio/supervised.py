"""Eventness learnt from the labels of the training rows: small networks on audio features, cross-fitted.

Every clip is scored by a network that never saw its video: a training clip by the one that was fitted on the other
folds, a clip of val or test by one that was fitted on all training rows. That one, rather than the mean over the folds,
since a mean of several networks is smoother than each of them, so that clips of test would get scores of another kind
than those on which the heads and thresholds after it rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from avs.audio.backend import Backend, Scale, backend
from avs.audio.features import fbank_features
from avs.core.clips import BACKGROUND, Clip, class_names, targets
from avs.core.errors import InputError
from avs.core.execute import one_thread, progress
from avs.standardize import standardized

_BATCH_ROWS = 2048
_NONE = -1  # the fold of a video that is in none


@dataclass(frozen=True)
class Recipe:
    """A network and its training by AdamW (weight decay 0.01), as published; `hidden: None` is linear.

    `classes`: told to tell the classes apart, background one of them, rather than event from background.
    """

    lr: float
    hidden: int | None = None
    epochs: int = 50
    classes: bool = False


@dataclass(frozen=True)
class Lesson:
    """Positions of the clips that one network learns from, and of those that it scores."""

    learners: np.ndarray
    pupils: np.ndarray


class Supervised(Backend):
    """A backend that has to learn first: it scores all clips of a data set at once."""

    version = 1
    recipe: ClassVar[Recipe]
    inputs: ClassVar[Literal["basic", "fbank"]] = "basic"

    def __call__(self, waveforms: np.ndarray, *, sample_rate: int = 16000, num_seconds: int = 10) -> np.ndarray:
        raise InputError(
            f"{type(self).__name__} learns from labelled training clips and cannot score a sound by itself: "
            "use it as eventness.method of a data set, or choose a method that needs no training"
        )

    def describe(self, waveforms: np.ndarray, num_seconds: int) -> np.ndarray:
        """What it learns from in place of the basic features: [N,T,C], C = 0 for nothing."""
        if self.inputs == "fbank":
            return fbank_features(waveforms, num_seconds=num_seconds)
        return np.empty((len(waveforms), num_seconds, 0), dtype=np.float32)

    def learn(
        self,
        features: np.ndarray,
        clips: Sequence[Clip],
        lessons: Sequence[Lesson],
        *,
        standardize: bool = True,
        epochs: int | None = None,
    ) -> np.ndarray:
        """Fit a network for each of the `lessons` and score features [N,T,D] by them: [N,T] float32.

        standardize: features less their mean, over their deviation, both of the lesson's learners.
        epochs: None for the recipe's.
        """
        recipe = replace(self.recipe, epochs=epochs or self.recipe.epochs)
        scores = np.empty(features.shape[:2], dtype=np.float32)
        for lesson in progress(lessons, "fit eventness"):
            x = standardized(features, lesson.learners) if standardize else features
            scores[lesson.pupils] = self._teach(x, [clips[i] for i in lesson.learners], lesson, recipe)
        return scores

    @one_thread()
    def _teach(self, x: np.ndarray, learners: list[Clip], lesson: Lesson, recipe: Recipe) -> np.ndarray:
        """The pupils' scores. The classes too are those of the learners alone."""
        y = torch.from_numpy(targets(learners, class_names(learners)).ravel())
        network = fit(torch.from_numpy(x[lesson.learners]).flatten(0, 1), y, recipe)
        with torch.inference_mode():
            return self._read(network(torch.from_numpy(x[lesson.pupils]))).numpy()

    def _read(self, logits: Tensor) -> Tensor:
        """Scores [N,T] from what the network says, [N,T,C]."""
        return logits[..., 0]


def plan_lessons(clips: Sequence[Clip], folds: int) -> list[Lesson]:
    """Who is scored by what was learnt from whom, so that no network scores a video that it has seen.

    Training videos are dealt out to the folds in the order of their digests, which knows no labels. A clip of another
    split whose video is one of training too goes with that video. The other clips, and with one fold all clips, as in
    the published code, are scored by what was learnt from all training clips. Those without sound teach nothing: they
    would teach that silence is an event.

    Raises InputError where the training clips are too few, or all seconds in them are of one kind.
    """
    teaching = np.array([clip.split == "train" and "no_audio" not in clip.flags.split(",") for clip in clips])
    videos = sorted({clip.sha256 for clip, teaches in zip(clips, teaching, strict=True) if teaches})
    if len(videos) < folds:
        raise InputError(
            f"eventness.folds ({folds}) must be at most the number of training videos with sound ({len(videos)}): "
            "lower it, or choose an eventness.method that needs no training"
        )
    place = {video: number % folds for number, video in enumerate(videos)} if folds > 1 else {}
    held_out = np.array([place.get(clip.sha256, _NONE) for clip in clips])
    lessons = [
        Lesson(np.flatnonzero(teaching & ((held_out != fold) | (fold == _NONE))), np.flatnonzero(held_out == fold))
        for fold in [_NONE, *range(folds)]
    ]
    for lesson in lessons:
        _check_kinds(np.stack([clips[i].event() for i in lesson.learners]))
    return [lesson for lesson in lessons if len(lesson.pupils)]


def _check_kinds(events: np.ndarray) -> None:
    if events.all() or not events.any():
        missing = "background" if events.all() else "event"
        raise InputError(
            f"no {missing} second in {len(events)} training clips that a supervised eventness.method would learn from: "
            "it needs both kinds (add clips, change eventness.folds, or choose a method that needs no training)"
        )


def fit(x: Tensor, y: Tensor, recipe: Recipe) -> nn.Module:
    """Train on rows x [R,D] with class indices y [R], seed 0; the network gives [...,1], or [...,C] for classes."""
    loss = class_loss if recipe.classes else event_loss
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = _network(x.shape[1], recipe.hidden, int(y.max()) + 1 if recipe.classes else 1)
        optimizer = torch.optim.AdamW(network.parameters(), lr=recipe.lr)
        for _ in range(recipe.epochs):
            for rows in torch.randperm(len(x)).split(_BATCH_ROWS):
                optimizer.zero_grad()
                loss(network(x[rows]), y[rows], y).backward()
                optimizer.step()
    return network


def event_loss(logits: Tensor, y: Tensor, everything: Tensor) -> Tensor:
    """Mean of softplus(-s) * neg / pos over events and softplus(s) over background; neg, pos count `everything`."""
    events = everything != BACKGROUND
    weight = (~events).sum() / events.sum()
    event = (y != BACKGROUND).float()
    return functional.binary_cross_entropy_with_logits(logits[:, 0], event, pos_weight=weight)


def class_loss(logits: Tensor, y: Tensor, everything: Tensor) -> Tensor:
    """Cross-entropy, each row weighted by total / (classes * count of its class in `everything`), over their weight."""
    counts = torch.bincount(everything, minlength=logits.shape[1])
    return functional.cross_entropy(logits, y, weight=len(everything) / (len(counts) * counts.clamp(min=1)))


def _network(inputs: int, hidden: int | None, outputs: int) -> nn.Module:
    if hidden is None:
        return nn.Linear(inputs, outputs)
    return nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, outputs))


@backend("audio_basic_lr")
class AudioBasicLr(Supervised):
    """The logit of an event, by logistic regression on the ten basic features.

    The threshold stands for the contrast of yamnet's: of ten scores one stands out by a third, here from a
    probability of 1/3 to one of 2/3, which is 2 ln 2 in logits; 2 ln 2 * sqrt(0.1 * 0.9) = 0.42.
    """

    scale = Scale("logit", 0.42)
    recipe = Recipe(lr=0.02)


@backend("audio_basic_mlp")
class AudioBasicMlp(Supervised):
    """The logit of an event, by a network with one hidden layer on the basic features; threshold as audio_basic_lr."""

    scale = Scale("logit", 0.42)
    recipe = Recipe(lr=0.002, hidden=64)


@backend("audio_fbank_mlp")
class AudioFbankMlp(Supervised):
    """The same on the mean and deviation of 40 log-mel bands."""

    scale = Scale("logit", 0.42)
    recipe = Recipe(lr=0.002, hidden=128)
    inputs = "fbank"


@backend("audio_basic_mlp_cls")
class AudioBasicMlpCls(Supervised):
    """1 - the probability of background, by a network that tells the classes apart; threshold as yamnet's."""

    scale = Scale("probability", 0.1)
    recipe = Recipe(lr=0.001, hidden=64, epochs=30, classes=True)

    def _read(self, logits: Tensor) -> Tensor:
        return 1 - logits.softmax(-1)[..., BACKGROUND]


@backend("audio_basic_mlp_cls_target")
class AudioBasicMlpClsTarget(Supervised):
    """The logit of the clip's class, which is the one (not background) whose mean over the clip is highest.

    The same network as audio_basic_mlp_cls. When one class rises by x and the others stay, its log odds rise by x:
    the threshold is that of audio_basic_lr.
    """

    scale = Scale("logit", 0.42)
    recipe = AudioBasicMlpCls.recipe

    def _read(self, logits: Tensor) -> Tensor:
        events = logits[..., BACKGROUND + 1 :]
        best = events.mean(1, keepdim=True).argmax(-1, keepdim=True)
        return events.gather(-1, best.expand(*events.shape[:2], 1))[..., 0]
