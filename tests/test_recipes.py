"""What a run trains: the published presets, what parameters change in them, which phases there are, what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from avs.avsr.noise import NoiseParams
from avs.avsr.recipes import AvsrParams, PhaseParams, recipe
from avs.config import load_config
from avs.core.errors import InputError
from avs.core.params import build

GIVEN = {"preset": "mcorec", "checkpoint": "net"}


def made(**given: Any) -> AvsrParams:
    return build(AvsrParams, given, "params.yaml")


def names(**given: Any) -> list[str]:
    return [phase.name for phase in recipe(made(**given)).phases]


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({}, ["seanet", "audio", "both", "joint"]),
        ({"use_seanet": False}, ["audio", "both"]),
        ({"seanet_checkpoint": "s"}, ["audio", "both", "joint"]),
        ({"checkpoint": "r"}, ["seanet", "joint"]),
        ({"checkpoint": "r", "use_seanet": False}, ["joint"]),
        ({"checkpoint": "r", "seanet_checkpoint": "s"}, ["joint"]),
        ({"epochs": {"audio": 0, "joint": 0}}, ["seanet", "both"]),
        (GIVEN, ["seanet", "joint"]),
        (GIVEN | {"seanet_checkpoint": "s"}, ["joint"]),
    ],
)
def test_there_are_the_phases_that_have_something_to_train(given: dict[str, Any], wanted: list[str]) -> None:
    assert names(**given) == wanted


def test_the_published_recipe() -> None:
    """MCoRec: arXiv and code say so; see the docstrings of FitParams, NoiseParams and data."""
    found = recipe(made(**GIVEN, seanet_checkpoint="s"))
    (joint,) = found.phases
    assert (found.encoder.width, found.encoder.layers, found.ctc_weight, found.frame_loss) == (1024, 24, 0.1, 0)
    fit, batch = joint.fit, joint.batch
    assert (fit.lr, fit.schedule, fit.warmup, fit.max_steps) == (1e-4, "linear", 0.01, 400_000)
    assert (fit.weight_decay, fit.clip, batch.clips, fit.accumulate) == (0.005, 1.0, 24, 2)
    assert batch.mixture == ("lrs2:0.25", "vox2:0.10", "avyt:0.20", "avyt-mix:0.25", "mcorec:0.20")
    assert batch.time_masks
    assert joint.noise == NoiseParams()
    assert found.seanet == {"N": 256, "L": 40, "B": 64, "H": 128, "K": 100, "R": 6, "head": 64}


def test_seanet_by_itself_as_published() -> None:
    alone = recipe(made(**GIVEN)).phases[0]
    assert (alone.fit.lr, alone.fit.epochs, alone.fit.clip, alone.batch.clips) == (1e-3, 150, 5.0, 10)
    assert min(alone.noise.interferers) > 0  # else there is nothing to separate


def test_every_seed_is_heard_in_the_same_mixtures() -> None:
    assert made(seed=1).condition_params() == made().condition_params()
    assert {phase.batch.seed for phase in recipe(made(seed=1)).phases} == {1}


def test_the_demo_is_the_same_in_fewer_steps() -> None:
    demo, tiny = recipe(made(preset="demo")), recipe(made())
    assert [phase.fit.max_steps for phase in demo.phases] == [120, 150, 120, 20]
    assert [replace(p, fit=replace(p.fit, max_steps=1)) for p in demo.phases] == [
        replace(p, fit=replace(p.fit, max_steps=1)) for p in tiny.phases
    ]
    assert replace(demo, phases=()) == replace(tiny, phases=())


def test_a_preset_in_the_projects_own_parameters_is_the_whole_of_it() -> None:
    """`-S avsr.preset=mcorec`: nothing that stands there for the demo changes how it trains."""
    params = load_config(Path(__file__).parents[1] / "params.yaml").avsr
    named = replace(params, **GIVEN)
    assert recipe(named) == recipe(made(**GIVEN))


def test_parameters_take_the_place_of_the_preset() -> None:
    given = {
        "epochs": {"both": 3},
        "max_steps": 7,
        "lr": 0.25,
        "batch_clips": 5,
        "accumulate": 2,
        "precision": "float32",
        "frame_loss": 0.0,
        "choose": "wer",
        "interferers": [2],
        "voices_snr": [0, 1],
        "noise_folder": "noise",
        "noise_snr": [3],
        "mixture": ["a:1"],
        "seed": 4,
    }
    found, plain = recipe(made(**given)), recipe(made())
    assert (found.frame_loss, found.choose, plain.choose) == (0, "wer", "last")
    for phase, before in zip(found.phases, plain.phases, strict=True):
        assert phase.fit.epochs == (3 if phase.name == "both" else before.fit.epochs)
        assert phase.fit.lr == (0.25 if phase.name == "joint" else before.fit.lr)
        assert (phase.fit.max_steps, phase.fit.accumulate, phase.fit.precision, phase.fit.seed) == (7, 2, "float32", 4)
        assert (phase.batch.clips, phase.batch.mixture, phase.batch.seed) == (5, ("a:1",), 4)
        assert (phase.noise.folder, phase.noise.noise_snr) == ("noise", (3,))
        voices = before.noise.interferers, before.noise.voices_snr
        assert (phase.noise.interferers, phase.noise.voices_snr) == (
            voices if phase.name == "seanet" else ((2,), (0, 1))
        )


def test_an_empty_mixture_is_all_clips() -> None:
    assert recipe(made(**GIVEN, mixture=[])).phases[-1].batch.mixture == ()


def test_seanet_learns_by_itself_from_the_clips_that_it_is_for() -> None:
    for given in ({}, GIVEN):
        phases = recipe(made(**given, seanet_scope="mcorec")).phases
        assert phases[0].batch.mixture == ("mcorec:1",)
        assert phases[-1].batch.mixture == recipe(made(**given)).phases[-1].batch.mixture


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"streaming_dataset": True}, r"SEANet requires streaming_dataset to be disabled \(streaming=False\)"),
        ({"streaming_dataset": True, "use_seanet": False}, r"streaming_dataset \(true\): there is no streaming"),
        ({"freeze_avhubert": True, "freeze_seanet": True}, "leaves nothing to train"),
        ({"freeze_avhubert": True, "use_seanet": False}, "leaves nothing to train"),
        *(({"preset": name}, rf"preset \({name}\) starts from a checkpoint") for name in ("base", "large", "mcorec")),
        ({"preset": "small"}, r"preset \('small'\)"),
        ({"eval_splits": []}, "eval_splits"),
        ({"eval_splits": ["test", "test"]}, "each once"),
        ({"eval_splits": ["test", "train"]}, r"eval_splits \(train\) is what was trained on"),
        ({"voices": -1}, r"voices \(-1\) must be >= 0"),
        ({"seed": -1}, r"seed \(-1\) must be >= 0"),
        ({"max_steps": 0}, r"max_steps \(0\) must be >= 1"),
        ({"batch_clips": 0}, r"batch_clips \(0\) must be >= 1"),
        ({"accumulate": 0}, r"accumulate \(0\) must be >= 1"),
        ({"frame_loss": -1.0}, r"frame_loss \(-1.0\) must be >= 0"),
        ({"lr": 0.0}, r"lr \(0.0\) must be > 0"),
        ({"interferers": []}, r"interferers \(\[\]\) must be"),
        ({"voices_snr": [5, 0]}, r"voices_snr \(\[5.0, 0.0\]\) must be two SNRs"),
        ({"noise_snr": []}, r"noise_snr \(\[\]\) must be SNRs"),
        ({"mixture": ["lrs2"]}, r"mixture \('lrs2'\) must be a data set and its weight"),
        ({"conditions": []}, r"conditions \(\[\]\) must be one at least"),
        ({"conditions": ["loud"]}, r"condition \('loud'\) must be clean, snr_X"),
        ({"babble": 0}, r"babble \(0\) must be >= 1"),
        ({"epochs": {"seanet": -1}}, r"epochs: seanet \(-1\) must be >= 0"),
        ({"epochs": dict.fromkeys(vars(PhaseParams()), 0)}, "epochs leave no phase to train in"),
        ({"evaluation": {"beam": 0}}, r"beam \(0\) must be >= 1"),
    ],
)
def test_refused_when_parameters_are_read(given: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        made(**given)


def test_a_mistake_is_told_with_its_block(tmp_path: Path) -> None:
    """Of what only a phase would stumble over, too."""
    text = (Path(__file__).parents[1] / "params.yaml").read_text()
    (tmp_path / "params.yaml").write_text(text.replace("  voices_snr: ", "  voices_snr: [9, 1]"))
    with pytest.raises(InputError, match=r"params\.yaml: avsr: voices_snr \(\[9.0, 1.0\]\) must be two SNRs"):
        load_config(tmp_path / "params.yaml")
