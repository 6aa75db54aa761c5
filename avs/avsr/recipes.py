"""What a run of the speech study trains, and how: the parameters, and presets that fill in what they leave empty.

`tiny` learns from scratch on two cores: SEANet by its own objective, a recognizer on noisy sound, then both together;
`demo` is the same in fewer steps.
`base` and `large` go on from checkpoints of these sizes; `mcorec` does so by the published recipe for MCoRec.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from avs.avsr.avhubert import AVHubertConfig
from avs.avsr.batch import Use
from avs.avsr.conditions import ConditionParams
from avs.avsr.data import BatchParams
from avs.avsr.evaluate import EvaluationParams
from avs.avsr.noise import NoiseParams
from avs.avsr.separation import SIZES, SeparationParams
from avs.avsr.train import FitParams
from avs.core.params import params

Preset = Literal["demo", "tiny", "base", "large", "mcorec"]
PhaseName = Literal["seanet", "audio", "both", "joint"]


@params
class PhaseParams:
    """How long the phases last, in epochs; empty: as the preset has it, 0: not at all."""

    seanet: int | None = None
    audio: int | None = None
    both: int | None = None
    joint: int | None = None

    def __post_init__(self) -> None:
        for name, epochs in vars(self).items():
            if epochs is not None and epochs < 0:
                raise ValueError(f"{name} ({epochs}) must be >= 0, or empty")


@params
class AvsrParams:
    """See params.yaml; what is empty (None) is as the preset has it."""

    preset: Preset = "tiny"
    checkpoint: str | None = None
    tokenizer: str | None = None
    use_seanet: bool = True
    seanet_scope: Literal["all", "mcorec"] = "all"
    seanet_checkpoint: str | None = None
    freeze_seanet: bool = False
    freeze_avhubert: bool = False
    streaming_dataset: bool = False
    mixture: tuple[str, ...] | None = None
    epochs: PhaseParams = field(default_factory=PhaseParams)
    max_steps: int | None = None
    lr: float | None = None
    batch_clips: int | None = None
    accumulate: int | None = None
    precision: Literal["float32", "bfloat16"] | None = None
    frame_loss: float | None = None
    choose: Literal["last", "wer"] | None = None
    interferers: tuple[int, ...] | None = None
    voices_snr: tuple[float, float] | None = None
    noise_folder: str | None = None
    noise_snr: tuple[float, ...] | None = None
    eval_splits: tuple[str, ...] = ("test",)
    conditions: tuple[str, ...] = ("clean", "snr_5", "snr_0", "snr_-5")
    babble: int = 6
    heard_noise: str | None = None
    evaluation: EvaluationParams = field(default_factory=EvaluationParams)
    voices: int = 6
    seed: int = 0

    def __post_init__(self) -> None:
        if self.streaming_dataset and self.use_seanet:
            raise ValueError(
                "SEANet requires streaming_dataset to be disabled (streaming=False): MuSE's features come from a cache"
            )
        if self.streaming_dataset:
            raise ValueError(
                "streaming_dataset (true): there is no streaming data set; prepared shards are read as needed"
            )
        if self.freeze_avhubert and (self.freeze_seanet or not self.use_seanet):
            raise ValueError("freeze_avhubert (true) leaves nothing to train without a SEANet that learns")
        if not _PRESETS[self.preset].from_scratch and not self.checkpoint:
            raise ValueError(f"preset ({self.preset}) starts from a checkpoint of AV-HuBERT: name it in checkpoint")
        if not self.eval_splits or len(set(self.eval_splits)) < len(self.eval_splits):
            raise ValueError(f"eval_splits ({list(self.eval_splits)}) must name one at least, each once")
        if trained := set(self.eval_splits) & set(BatchParams().train):
            raise ValueError(f"eval_splits ({', '.join(trained)}) is what was trained on: nothing is measured by it")
        for name, least in (("voices", 0), ("seed", 0), ("max_steps", 1), ("batch_clips", 1), ("accumulate", 1)):
            if (value := getattr(self, name)) is not None and value < least:
                raise ValueError(f"{name} ({value}) must be >= {least}")
        if self.frame_loss is not None and not 0 <= self.frame_loss < math.inf:
            raise ValueError(f"frame_loss ({self.frame_loss}) must be >= 0")
        self.condition_params()
        if not recipe(self).phases:
            raise ValueError("epochs leave no phase to train in")

    def condition_params(self) -> ConditionParams:
        """Not by `seed`: trainings with other seeds are heard in the same mixtures."""
        return ConditionParams(names=self.conditions, babble=self.babble, noise=self.heard_noise)


@dataclass(frozen=True)
class Phase:
    """One training: of what, on which inputs, and how."""

    name: PhaseName
    use: Use
    fit: FitParams
    batch: BatchParams
    noise: NoiseParams


@dataclass(frozen=True)
class Recipe:
    """Sizes of what starts from scratch, and the phases in their order."""

    encoder: AVHubertConfig
    decoder: dict[str, Any]  # of a new decoder, but for the vocabulary; empty: MCoRec's
    seanet: dict[str, int]
    ctc_weight: float
    frame_loss: float
    choose: Literal["last", "wer"]
    separation: SeparationParams
    from_scratch: bool  # SEANet's filters begin as waves, and features are standardised: published ones are not
    phases: tuple[Phase, ...]

    def phase(self, name: PhaseName) -> Phase | None:
        return next((phase for phase in self.phases if phase.name == name), None)


# Settings that worked on 300 sentences of one GRID speaker. With one voice to learn from, others are made of it by
# playing it faster or slower; voices of one loudness make up babble.
_SPEEDS = (1.0, 1.0, 1.0, 1.0, 0.75, 0.8, 0.83, 0.88, 1.14, 1.2, 1.25, 1.33)
_ALONE = NoiseParams(interferers=(*(1,) * 8, 6), among=(0, 0), voices_snr=(-5, 5), shortest=0.5, speeds=_SPEEDS)
_BABBLE = NoiseParams(interferers=(0, 1, 6, 6), among=(0, 0), voices_snr=(-5, 20), shortest=0.5)
_JOINT = NoiseParams(interferers=(0, 1, 1, 6), among=(0, 0), voices_snr=(-5, 15), shortest=0.5, speeds=_SPEEDS)
_FIT = FitParams(weight_decay=0.01, schedule="onecycle", warmup=0.3, clip=20.0, precision="bfloat16")
_TINY = Recipe(
    encoder=AVHubertConfig.preset("tiny"),
    decoder={"width": 128, "layers": 2, "heads": 4, "inner": 512},
    seanet=dict(SIZES["tiny"]),
    ctc_weight=0.3,
    frame_loss=8.0,
    choose="last",
    separation=SeparationParams(fbank=20.0, jitter=0.2, crop=30),
    from_scratch=True,
    phases=(
        Phase(
            "seanet",
            "both",
            replace(_FIT, epochs=40, lr=1.5e-3, warmup=0.15, clip=5.0, precision="float32"),
            BatchParams(clips=4),
            _ALONE,
        ),
        Phase("audio", "audio", replace(_FIT, epochs=30, lr=1.5e-3), BatchParams(), _BABBLE),
        Phase("both", "both", replace(_FIT, epochs=40, lr=1.2e-3), BatchParams(), _BABBLE),
        Phase("joint", "both", replace(_FIT, epochs=6, lr=3e-4, warmup=0.1), BatchParams(), _JOINT),
    ),
)

_DEMO = {"seanet": 120, "audio": 150, "both": 120, "joint": 20}  # steps


def _shorter(phase: Phase) -> Phase:
    return replace(phase, fit=replace(phase.fit, max_steps=_DEMO[phase.name]))


# Published for MCoRec: AdamW, 1e-4, up in 4000 of 400000 steps, then down on a line; 24 clips a step, on two GPUs, in
# two parts each.
_FINE = FitParams(epochs=10, accumulate=2, precision="bfloat16", checkpoint_every=2000)
_BATCH = BatchParams(clips=24, frames=24 * 375, time_masks=True)
# Published for SEANet: AdamW, 1e-3, down by 3 % after each third of 150 epochs (a line here), 10 crops of 4 s a step.
_SEPARATE = FitParams(epochs=150, lr=1e-3, weight_decay=0.01, warmup=0.0, clip=5.0, checkpoint_every=2000)
_TALKER = NoiseParams(interferers=(1,))
_MCOREC = ("lrs2:0.25", "vox2:0.10", "avyt:0.20", "avyt-mix:0.25", "mcorec:0.20")


def _tuned(encoder: AVHubertConfig, fit: FitParams, batch: BatchParams, noise: NoiseParams) -> Recipe:
    """A recipe that only fine-tunes, from checkpoints."""
    return Recipe(
        encoder=encoder,
        decoder={},
        seanet=dict(SIZES["published"]),
        ctc_weight=0.1,
        frame_loss=0.0,
        choose="wer",
        separation=SeparationParams(),
        from_scratch=False,
        phases=(
            Phase("seanet", "both", _SEPARATE, replace(batch, clips=10, time_masks=False), _TALKER),
            Phase("joint", "both", fit, batch, noise),
        ),
    )


_PRESETS: dict[str, Recipe] = {
    "demo": replace(_TINY, phases=tuple(_shorter(phase) for phase in _TINY.phases)),
    "tiny": _TINY,
    "base": _tuned(AVHubertConfig.preset("base"), _FINE, _BATCH, NoiseParams()),
    "large": _tuned(AVHubertConfig.preset("large"), _FINE, _BATCH, NoiseParams()),
    "mcorec": _tuned(
        AVHubertConfig.preset("large"),
        replace(_FINE, epochs=100, max_steps=400_000),
        replace(_BATCH, mixture=_MCOREC),
        NoiseParams(),
    ),
}


def recipe(p: AvsrParams) -> Recipe:
    """The preset, with what the parameters say in its place, and only the phases that there is something to do in."""
    found = _PRESETS[p.preset]
    phases = [_changed(phase, p) for phase in found.phases]
    return replace(
        found,
        phases=tuple(phase for phase in phases if phase and _needed(phase.name, p)),
        frame_loss=found.frame_loss if p.frame_loss is None else p.frame_loss,
        choose=p.choose or found.choose,
    )


def _needed(name: PhaseName, p: AvsrParams) -> bool:
    if name == "seanet":
        return p.use_seanet and not p.seanet_checkpoint
    if name in ("audio", "both"):
        return not p.checkpoint
    return p.use_seanet or bool(p.checkpoint)


def _changed(phase: Phase, p: AvsrParams) -> Phase | None:
    """The phase with the parameters' values; None where it lasts no epoch. Rates and steps are those of `joint`."""
    epochs = getattr(p.epochs, phase.name)
    if epochs == 0:
        return None
    joint = phase.name == "joint"
    fit = {"epochs": epochs, "max_steps": p.max_steps, "accumulate": p.accumulate, "precision": p.precision}
    fit |= {"lr": p.lr} if joint else {}
    noise = {"folder": p.noise_folder, "noise_snr": p.noise_snr}
    mixture = p.mixture
    if phase.name != "seanet":
        noise |= {"interferers": p.interferers, "voices_snr": p.voices_snr}
    elif p.seanet_scope == "mcorec":  # it learns from what it is for
        mixture = ("mcorec:1",)
    return replace(
        phase,
        fit=_with(replace(phase.fit, seed=p.seed), fit),
        batch=_with(replace(phase.batch, seed=p.seed), {"clips": p.batch_clips, "mixture": mixture}),
        noise=_with(phase.noise, noise),
    )


def _with(block: Any, values: dict[str, Any]) -> Any:
    return replace(block, **{name: value for name, value in values.items() if value is not None})
