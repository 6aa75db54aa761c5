"""The speech study: trains what the recipe says, phase by phase, and hears what each model understands.

A phase's weights lie in the item store under a key of all that decides them, so that a killed run goes on, and runs
that differ in a later phase share the earlier ones.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from avs.avsr import launch
from avs.avsr.batch import Batch
from avs.avsr.conditions import CLEAN, Interference
from avs.avsr.data import BatchParams, Kept, SpeechData, told
from avs.avsr.evaluate import evaluate
from avs.avsr.mixtures import Mixtures, write_mixtures
from avs.avsr.model import AvsrModel
from avs.avsr.noise import NoiseParams
from avs.avsr.orders import Order
from avs.avsr.recipes import AvsrParams, Phase, recipe
from avs.avsr.recognizers import Loss, Recognizer
from avs.avsr.runs import run_folder
from avs.avsr.scores import CONTROLS, SEPARATE, Heard, score
from avs.avsr.seanet import SEANet
from avs.avsr.separation import Separation, interval, judge
from avs.avsr.start import start
from avs.avsr.train import Fitted, fit
from avs.avsr.voices import write_voices
from avs.core.errors import InputError
from avs.core.execute import exact_convolutions, one_thread
from avs.lips.cache import MuseFeatures
from avs.lips.media import SpeechClip, SpeechShards

_CONCERNED: dict[str, tuple[str, ...]] = {
    "seanet": ("seanet",),
    "audio": ("recognizer",),
    "both": ("recognizer",),
    "joint": ("recognizer", "seanet"),
}
_NOBODY = NoiseParams(interferers=(0,))
PLAIN = ("audio", "video", "av")
VERSION = 2  # raise when a phase's result changes


@dataclass
class Study:
    """What came of a run: the networks, how each phase went, and what was heard and separated."""

    recognizer: Recognizer
    seanet: SEANet | None
    fitted: dict[str, Fitted]
    rows: list[Heard] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    separated: dict[str, Any] = field(default_factory=dict)

    def metrics(self) -> dict[str, Any]:
        return score(self.rows) | self.separated


def run_study(
    media: Path,
    muse: Path,
    mixed: Path,
    p: AvsrParams,
    *,
    curves: Path | None = None,
    voices: Path | None = None,
    device: str = "auto",
) -> Study | None:
    """Train and evaluate. media, muse: of the stages before; mixed: where evaluation's mixtures are, or will be.

    curves, voices: folders for learning curves, and for sounds of some clips. In one of several processes that train
    together, all but the first return None, and all do that were started for a process that evaluates itself.
    Raises InputError, before any training, for data, features, checkpoints and conditions that do not fit.
    """
    accelerator = launch.accelerator(device)
    trainer = Trainer(media, muse, p, curves, accelerator)
    trainer.check()
    evaluates = accelerator.is_main_process and not launch.for_another()
    if evaluates:
        mixtures = trainer.mixtures(mixed)
    trainer.apart()
    before = copy.deepcopy(trainer.system) if evaluates else None
    trainer.together()
    if before is None:
        return None
    study = Study(trainer.start.recognizer, trainer.start.seanet, trainer.fitted)
    _evaluate(study, trainer, before, mixtures, voices)
    return study


def train_apart(media: Path, muse: Path, p: AvsrParams) -> None:
    """Train the networks each by itself, as far as the recipe has it; `run_study` goes on from there."""
    trainer = Trainer(media, muse, p, None, launch.accelerator())
    trainer.check()
    trainer.apart()


class Trainer:
    """Takes a start through the phases of a recipe."""

    def __init__(self, media: Path, muse: Path, p: AvsrParams, curves: Path | None, accelerator: Accelerator) -> None:
        self.p, self.recipe, self._curves, self._accelerator = p, recipe(p), curves, accelerator
        self.shards = SpeechShards(media)
        self.muse = MuseFeatures(muse) if p.use_seanet else None
        splits = {split for phase in self.recipe.phases for split in phase.batch.train}
        said = [clip.transcript for clip in self.shards.clips if clip.split in splits]
        if not said:
            raise InputError(f"{media}: none of {len(self.shards.clips)} clips is of split {', '.join(sorted(splits))}")
        self.start = start(p, self.recipe, said)
        self._kept = Kept()
        words = len(self.data(self.recipe.phases[0]).words) if self.recipe.frame_loss else 0
        torch.manual_seed(p.seed + 2)  # of the head for words: the same with SEANet and without
        self.system = AvsrModel(self.start.recognizer, words=words, frame_loss=self.recipe.frame_loss)
        self.fitted: dict[str, Fitted] = {}
        # all that has decided the weights of each so far
        self._after: dict[str, tuple[str, ...]] = {
            "recognizer": self.start.digests[:1],
            "seanet": self.start.digests[1:],
        }

    def data(self, phase: Phase) -> SpeechData:
        """What a phase trains on. SEANet takes part in the first and the last one."""
        return self._clips(phase.batch, phase.noise, self.muse if phase.name in ("seanet", "joint") else None)

    def heard(self, splits: Sequence[str], mixed: Mixtures | None) -> _Evaluated:
        """Clips of splits as evaluation hears them."""
        return _Evaluated(self._clips(self.recipe.phases[-1].batch, _NOBODY, self.muse, mixed), splits)

    def _clips(
        self, batch: BatchParams, noise: NoiseParams, muse: MuseFeatures | None, mixed: Mixtures | None = None
    ) -> SpeechData:
        return SpeechData(
            self.shards,
            muse,
            self.start.tokenizer,
            batch,
            noise,
            mixed=mixed,
            seanet_scope="all" if muse is None else self.p.seanet_scope,  # without SEANet it decides nothing
            standardize=self.recipe.from_scratch,
            kept=self._kept,
        )

    def mixtures(self, folder: Path) -> Mixtures:
        """Evaluation's mixtures, written where they are not there yet."""
        write_mixtures(folder, self.heard(self.p.eval_splits, None).clips, self._interference())
        return Mixtures(folder)

    def _interference(self) -> Interference:
        voice = self.data(self.recipe.phases[0]).voice
        return Interference(self.p.condition_params(), self.shards.clips, voice)

    def check(self) -> None:
        """Raise InputError for all that would stop a phase, before the first one begins."""
        if self.muse is not None and self.p.seanet_scope == "mcorec":
            names = sorted({clip.dataset_name for clip in self.data(self.recipe.phases[0]).training})
            if "mcorec" not in names:
                raise InputError(f"avsr.seanet_scope (mcorec): no training clip is of it, but of {', '.join(names)}")
        for phase in self.recipe.phases:
            self.data(phase).check()
        splits = [*self.p.eval_splits, *("val" for phase in self.recipe.phases if self.scored(phase))]
        self.heard(splits, None).data.check(splits)
        self._interference().check(self.heard(self.p.eval_splits, None).clips)

    def apart(self) -> None:
        """Train the networks each by itself, as far as the recipe has it."""
        seanet = self.start.seanet
        for phase in self.recipe.phases:
            if phase.name == "seanet" and seanet is not None:
                described = asdict(self.recipe.separation) | {"sizes": self.recipe.seanet}
                self._fit(phase, Separation(seanet, self.recipe.separation), described)
            elif phase.name in ("audio", "both"):
                self._fit(phase, self.system, self.described())
        self.system.seanet = seanet
        self.system.to(self._accelerator.device)  # what no phase has trained is still where it was read

    def together(self) -> None:
        """Train both on through the recognizer's loss alone."""
        phase = self.recipe.phase("joint")
        if phase is None:
            return
        if self.p.freeze_seanet and self.system.seanet is not None:
            self.system.seanet.freeze()
        if self.p.freeze_avhubert:
            self.system.freeze_recognizer()
        self._fit(phase, self.system, self.described() | {"freeze": [self.p.freeze_seanet, self.p.freeze_avhubert]})

    def described(self) -> dict[str, Any]:
        r = self.recipe
        return {
            "encoder": asdict(self.start.recognizer.encoder.config),
            "decoder": asdict(self.start.recognizer.decoder.config),
            "seanet": r.seanet,
            "weights": [r.ctc_weight, r.frame_loss],
            "seed": self.p.seed,
        }

    def _fit(self, phase: Phase, model: Any, described: dict[str, Any]) -> None:
        data = self.data(phase)
        use = phase.use
        loss: Callable[[Batch], Loss] = model if phase.name == "seanet" else lambda batch: model(batch, use)
        chosen = self.scored(phase)
        concerned = _CONCERNED[phase.name]
        after = {name: self._after[name] for name in concerned}
        parts = {"study": VERSION, "phase": phase.name, "use": use, "model": described, "after": after}
        fitted_by = {"fit": _decisive(phase), "data": data.described(), "chosen": self._choice() if chosen else ""}
        folder = run_folder(**parts, **fitted_by)
        with one_thread():  # SEANet's steps are short
            self.fitted[phase.name] = fit(
                model,
                loss,
                _Training(data),
                phase.fit,
                folder,
                name=phase.name,
                score=self._score if chosen else None,
                curves=self._curves and self._curves / phase.name,
                accelerator=self._accelerator,
            )
        self._after |= {name: (*self._after[name], folder.name) for name in concerned}

    def scored(self, phase: Phase) -> bool:
        """Whether its weights are those of the lowest WER."""
        return self.recipe.choose == "wer" and phase.name == "joint"

    def _choice(self) -> dict[str, Any]:
        """What decides which weights have the lowest WER, beside the data that trains."""
        return {"evaluation": asdict(self.p.evaluation), "clips": told(self.heard(("val",), None).clips)}

    def _score(self) -> float:
        """WER on clean clips of `val`, with all that the system has."""
        name = "av" if self.system.seanet is None else "av_seanet"
        heard = self.heard(("val",), None)
        found = evaluate(
            self.system, self.start.tokenizer, heard.clips, heard.batches, [CLEAN], self.p.evaluation, models=[name]
        )
        return float(found.metrics()["wer"][name][CLEAN]["wer"])


def _decisive(phase: Phase) -> dict[str, Any]:
    """What of a phase's parameters decides its weights: how often one looks at it does not."""
    return {name: value for name, value in asdict(phase.fit).items() if name not in ("checkpoint_every", "log_every")}


class _Training:
    """Batches of an epoch, for `fit`."""

    def __init__(self, data: SpeechData) -> None:
        self._data = data

    def epoch(self, number: int) -> list[Order]:
        return self._data.epoch(number)

    def batch(self, order: Order, epoch: int) -> Batch:
        return self._data.batch(order, epoch, training=True)


class _Evaluated:
    """Batches of some splits in any condition, for `evaluate`."""

    def __init__(self, data: SpeechData, splits: Sequence[str]) -> None:
        self.data, self._splits = data, splits
        self.clips: Sequence[SpeechClip] = [clip for split in splits for clip in data.clips(split)]

    def batches(self, condition: str) -> Iterator[Batch]:
        for split in self._splits:
            yield from self.data.batches(split, condition)


def _evaluate(study: Study, trainer: Trainer, before: AvsrModel, mixtures: Mixtures, voices: Path | None) -> None:
    """What each model hears in each condition, and what SEANet gets out of it."""
    p, after = trainer.p, trainer.system
    heard = trainer.heard(p.eval_splits, mixtures)
    if voices is not None:
        _keep_voices(voices, trainer, heard)

    def by(model: AvsrModel, names: Sequence[str]) -> list[Heard]:
        found = evaluate(
            model, trainer.start.tokenizer, heard.clips, heard.batches, p.conditions, p.evaluation, models=names
        )
        study.notes += [note for note in found.notes if note not in study.notes]
        return found.rows

    if "val" in p.eval_splits and any(trainer.scored(phase) for phase in trainer.recipe.phases):
        study.notes.append("weights were chosen by WER on val, which is judged here: its WER is too low for that")
    if after.seanet is None:
        study.rows = by(after, PLAIN)
        return
    apart = by(before, [*PLAIN, *SEPARATE])
    study.rows = [replace(row, model=SEPARATE.get(row.model, row.model)) for row in apart]
    study.rows += by(after, [*SEPARATE, *CONTROLS])
    assert before.seanet is not None
    study.separated = _separated(trainer, before.seanet, heard)


def _separated(trainer: Trainer, before: SEANet, heard: _Evaluated) -> dict[str, Any]:
    """SI-SDR and STOI of the mixture and of SEANet's voice, and what it gains: with the clip's lips, with those of
    another clip, and, before it was trained jointly, as `separate`."""
    found: dict[str, Any] = {"si_sdr": {}, "stoi": {}}
    after = trainer.system.seanet
    assert after is not None
    for condition in (name for name in trainer.p.conditions if name != CLEAN):
        right = judge(after, heard.batches(condition), "right")
        wrong = judge(after, heard.batches(condition), "wrong")
        apart = judge(before, heard.batches(condition), "right")
        if not right:  # none of these clips goes through it
            return {}
        for measure, rows in found.items():
            rows[condition] = {
                "mixture": interval([getattr(row, f"{measure}_before") for row in right]),
                "seanet": interval([getattr(row, measure) for row in right]),
                "improvement": interval([row.gain(measure) for row in right]),
                "wrong_lips": interval([row.gain(measure) for row in wrong]),
                "separate": interval([row.gain(measure) for row in apart]),
            }
    return found


def _keep_voices(folder: Path, trainer: Trainer, heard: _Evaluated) -> None:
    """Sounds of some clips, for the page: the mixture in each condition, and what SEANet makes of it."""
    system = trainer.system.eval()
    for clip in heard.clips[: trainer.p.voices]:
        for condition in trainer.p.conditions:
            batch = heard.data.batch([clip], condition=condition).to(next(system.parameters()).device)
            with torch.inference_mode(), one_thread(), exact_convolutions():
                voice = None if system.seanet is None else system.voices(batch)[0].cpu().numpy()
            write_voices(folder, clip.key, condition, batch.mixture[0].cpu().numpy(), voice)
