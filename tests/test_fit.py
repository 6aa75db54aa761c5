"""Training: a kill changes nothing, parts of a batch add up to it, what is frozen stays, the best weights are kept."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from fit_models import Noise, recognized, recognizer, seanet, separation, system
from fit_script import SHORT, long_run, shared_run
from torch import Tensor, nn

from avs.avsr import runs
from avs.avsr.batch import Batch
from avs.avsr.model import AvsrModel
from avs.avsr.recognizers import Loss
from avs.avsr.runs import run_folder
from avs.avsr.train import FitParams, fit
from avs.core.errors import InputError
from avs.core.execute import one_thread

TESTS = Path(__file__).parent


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


def weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    """Bit by bit."""
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


def files(folder: Path) -> dict[Path, bytes]:
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_killed_training_ends_as_one_that_was_not(tmp_path: Path) -> None:
    """Dropout of inputs and values, norms, optimizer, schedule, the choice, curves: all bit by bit."""
    command = [sys.executable, str(TESTS / "fit_script.py"), "killed", str(tmp_path / "killed"), "6"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(TESTS), str(TESTS.parent)])}
    assert subprocess.run(command, env=environment, check=False).returncode == -signal.SIGKILL
    assert (tmp_path / "killed/state.pt").exists()  # of step 4: the fifth is done again
    (tmp_path / "killed/.partial-torn").write_bytes(b"a checkpoint that was being written")
    model, fitted = long_run(tmp_path / "killed")
    whole, expected = long_run(tmp_path / "whole")
    assert same(weights(model), weights(whole))
    assert (fitted.history, fitted.step, fitted.score) == (expected.history, expected.step, expected.score)
    assert files(tmp_path / "killed/curves") == files(tmp_path / "whole/curves")
    assert sorted(path.name for path in (tmp_path / "killed").iterdir()) == ["curves", "lock", "weights.pt"]


def test_the_weights_of_the_best_score_are_kept(tmp_path: Path) -> None:
    """That of the first epoch is best; resumed after it, in its last epoch, a training still has its weights."""
    model, data, scores = recognized(), Noise([2], [3]), iter([2.0, 1.0, 3.0, 2.0])
    after: list[dict[str, Tensor]] = []

    def score() -> float:
        assert not any(part.training for part in model.modules())
        after.append(weights(model))
        return next(scores)

    def stops(batch: Batch) -> Loss:
        if len(after) == 3:
            raise KeyboardInterrupt
        return model(batch)

    p = FitParams(epochs=4, lr=1e-3)
    with pytest.raises(KeyboardInterrupt):
        fit(model, stops, data, p, tmp_path, score=score)
    model = recognized()
    fitted = fit(model, model, data, p, tmp_path, score=score)
    assert (fitted.steps, fitted.step, fitted.score) == (8, 4, 1.0)
    assert same(weights(model), after[1])
    assert not same(after[1], after[3])
    assert [row.get("score") for row in fitted.history] == [2.0, 1.0, 3.0, 2.0]
    assert len(after) == 4


def test_a_finished_training_is_not_done_again(tmp_path: Path) -> None:
    model, data = recognized(), Noise([2])
    fitted = fit(model, model, data, SHORT, tmp_path, curves=tmp_path / "one")
    fresh = recognized()
    again = fit(fresh, fresh, data, SHORT, tmp_path, curves=tmp_path / "two")
    assert data.read == [(0, 0)]
    assert same(weights(fresh), weights(model))
    assert replace(again, seconds=fitted.seconds, peak_mb=fitted.peak_mb) == fitted
    assert files(tmp_path / "one") == files(tmp_path / "two") != {}


def test_one_training_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Another process that trains the same is waited for, and its weights are taken."""
    model, data = recognized(), Noise([2])
    fit(model, model, data, SHORT, tmp_path / "other")

    def held(_file: object, how: int) -> None:
        if how & fcntl.LOCK_NB:
            raise BlockingIOError
        (tmp_path / "other/weights.pt").rename(tmp_path / "own/weights.pt")

    monkeypatch.setattr(runs.fcntl, "flock", held)
    fresh = recognized()
    fit(fresh, fresh, data, SHORT, tmp_path / "own")
    assert "own: waiting for another process that trains this" in capsys.readouterr().err
    assert data.read == [(0, 0)]
    assert same(weights(fresh), weights(model))


def test_accumulated_parts_equal_their_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Five clips of two lengths in one part, in two (3 + 2) and in nine, of which four are empty."""
    monkeypatch.setattr("fit_script.SHARED", {"parts": (recognized, Noise([3, 2, 3, 2, 3], [3]))})
    found = {}
    for parts in (1, 2, 9):
        monkeypatch.setattr("fit_script.SHORT", replace(SHORT, accumulate=parts))
        found[parts] = shared_run("parts", tmp_path / str(parts))
    for parts in (2, 9):
        assert found[parts]["loss"] == pytest.approx(found[1]["loss"], rel=1e-6)
        for one, other in zip(found[1]["gradients"], found[parts]["gradients"], strict=True):
            assert max(float((one[name] - other[name]).abs().max()) for name in one) < 1e-6


@pytest.mark.parametrize("part", ["seanet", "recognizer"])
def test_what_is_frozen_stays(tmp_path: Path, part: str) -> None:
    """Weights and running statistics; the other part learns."""
    model = AvsrModel(recognizer(front_end="resnet18", dropout=0.5), seanet())
    _ = model.seanet.freeze() if part == "seanet" else model.freeze_recognizer()  # type: ignore[union-attr]
    before = weights(model)
    modes = []

    def loss(batch: Batch) -> Loss:
        modes.append({name: getattr(model, name).training for name in ("seanet", "recognizer")})
        return model(batch)

    fit(model, loss, Noise([2, 2]), FitParams(epochs=2, lr=1e-3), tmp_path, score=lambda: 0.0)
    changed = {name.split(".")[0] for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"seanet", "recognizer"} - {part}
    assert modes == [{"seanet": part != "seanet", "recognizer": part != "recognizer"}] * 2


def test_what_has_no_gradient_does_not_decay(tmp_path: Path) -> None:
    """SEANet's first `cross`, which is never asked."""
    model = separation()
    before = weights(model)
    fit(model, model, Noise([2, 2]), FitParams(epochs=1, lr=1e-2, weight_decay=0.5, warmup=0.0), tmp_path)
    still = {name for name, value in model.state_dict().items() if torch.equal(value, before[name])}
    learned = {name for name, _ in model.named_parameters()} - still
    assert {name for name in before if ".cross.0." in name} <= still
    assert {"seanet.encoder.conv1d_U.weight", "seanet.decoder.basis_signals.weight"} <= learned


def test_bfloat16_of_products_only(tmp_path: Path) -> None:
    """Weights stay in float32, and the first loss is that of float32 but for the rounding of products (1 %)."""
    found = {}
    for precision in ("float32", "bfloat16"):
        model = system()
        p = FitParams(epochs=2, lr=1e-3, precision=precision)  # type: ignore[arg-type]
        found[precision] = fit(model, model, Noise([3, 2]), p, tmp_path / precision).history
        assert {value.dtype for value in model.parameters()} == {torch.float32}
    assert found["bfloat16"][0]["loss"] == pytest.approx(found["float32"][0]["loss"], rel=0.01)
    assert found["bfloat16"][0]["loss"] != found["float32"][0]["loss"]


def test_it_learns(tmp_path: Path) -> None:
    """One batch by heart."""
    model = recognized()

    class Same(Noise):
        def batch(self, order: int, epoch: int) -> Batch:
            return super().batch(order, 0)

    p = FitParams(epochs=40, lr=1e-2, schedule="onecycle", warmup=0.3)
    history = fit(model, model, Same([3, 3, 2]), p, tmp_path).history
    assert history[-1]["loss"] < 0.5 * history[0]["loss"]


def test_steps_end_where_they_are_said_to(tmp_path: Path) -> None:
    model, data = recognized(), Noise([2], [2], [2])
    p = FitParams(epochs=9, max_steps=4, schedule="linear", warmup=0.5, lr=1e-3, log_every=1)
    fitted = fit(model, model, data, p, tmp_path, score=lambda: 1.0)
    assert data.read == [(0, 0), (0, 1), (0, 2), (1, 0)]
    assert [row["lr"] for row in fitted.history] == pytest.approx([0.0, 5e-4, 1e-3, 5e-4])
    assert [row["step"] for row in fitted.history if "score" in row] == [3, 4]


def test_numbers_that_are_no_numbers_end_it(tmp_path: Path) -> None:
    model = recognized()

    def loss(batch: Batch) -> Loss:
        found = model(batch)
        return Loss(found.total * float("inf"), {})

    with pytest.raises(InputError, match=r"fit: at step 0 loss inf, .*lower lr than 1e-06"):
        fit(model, loss, Noise([2]), SHORT, tmp_path)
    with pytest.raises(InputError, match="score after step 1 is no number"):
        fit(model, recognized(), Noise([2]), SHORT, tmp_path / "score", score=lambda: float("nan"))


def test_what_cannot_be_trained_is_said(tmp_path: Path) -> None:
    model = recognized()
    with pytest.raises(InputError, match="asr: there are no batches"):
        fit(model, model, Noise(), SHORT, tmp_path, name="asr")
    with pytest.raises(InputError, match="asr: all of the model is frozen"):
        fit(model.freeze_recognizer(), model, Noise([2]), SHORT, tmp_path, name="asr")


def test_a_checkpoint_of_another_training_is_refused(tmp_path: Path) -> None:
    model = recognized()

    def stops(batch: Batch) -> Loss:
        if (tmp_path / "state.pt").exists():
            raise KeyboardInterrupt
        return model(batch)

    with pytest.raises(KeyboardInterrupt):
        fit(model, stops, Noise([2], [2]), replace(SHORT, epochs=2), tmp_path)
    with pytest.raises(InputError, match="of a training of 4 steps, not of 6"):
        fit(model, model, Noise([2], [2]), replace(SHORT, epochs=3), tmp_path)
    (tmp_path / "state.pt").write_bytes(b"no checkpoint")
    with pytest.raises(InputError, match=r"state.pt cannot be read .*remove it"):
        fit(model, model, Noise([2], [2]), replace(SHORT, epochs=2), tmp_path)


def test_processes_that_do_not_join_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match="2 processes were started, but accelerate joins 1"):
        fit(recognized(), recognized(), Noise([2]), SHORT, tmp_path)


def test_folders_are_told_apart_by_what_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    one = run_folder(data="grid", seed=0)
    assert one == run_folder(seed=0, data="grid")
    assert one != run_folder(data="grid", seed=1)
    monkeypatch.setattr(runs, "VERSION", runs.VERSION + 1)
    assert one != run_folder(data="grid", seed=0)


@pytest.mark.parametrize(
    ("values", "error"),
    [
        ({"epochs": 0}, r"epochs \(0\) must be >= 1"),
        ({"max_steps": 0}, r"max_steps \(0\) must be >= 1"),
        ({"lr": 0.0}, r"lr \(0.0\) must be > 0"),
        ({"clip": -1.0}, r"clip \(-1.0\) must be >= 0"),
        ({"warmup": 1.0}, r"warmup \(1.0\) must be in \[0, 1\)"),
        ({"schedule": "cosine"}, "schedule"),
    ],
)
def test_wrong_values(values: dict[str, Any], error: str) -> None:
    with pytest.raises(ValueError, match=error):
        FitParams(**values)
