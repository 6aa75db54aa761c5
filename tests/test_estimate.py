from dataclasses import replace
from pathlib import Path

import pytest

from avs import calibration
from avs import estimate as module
from avs.config import Config, load_config
from avs.core.clips import Clip, write_table
from avs.core.errors import InputError
from avs.core.execute import ExecutionParams
from avs.datasets import install, open_dataset
from avs.datasets.local import LocalParams
from avs.estimate import estimate
from avs.preprocess import preprocess
from avs.report.costs import StageCost
from avs.sampling.tokens import BudgetParams
from avs.vision.cache import CacheParams

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def config(tiny_videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    """Small parameters and six videos of three seconds, in a working directory of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(calibration, "_PASSES", 1)
    rows = [f"v{n}.mp4\tDog\t1\t2\t{split}" for n, split in enumerate(["train"] * 4 + ["test"] * 2)]
    Path("rows.tsv").write_text("\n".join(["video\tlabel\tstart\tend\tsplit", *rows]) + "\n")
    base = load_config(ROOT / "params.yaml")
    return replace(
        base,
        dataset="local",
        data=replace(base.data, local=LocalParams(str(tiny_videos), "rows.tsv", seconds=3)),
        budget=BudgetParams(low_res=32, base_res=64, high_res=128),
        cache=CacheParams(weights="random"),
        p0=replace(base.p0, seeds=1, epochs=2, resamples=100),
        execution=ExecutionParams(workers=1),
    )


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is measured but what decoding takes."""
    monkeypatch.setattr(module, "_encoding", lambda *_: [])
    monkeypatch.setattr(module, "_start", lambda: (0.0, 0))


def costs(config: Config) -> dict[str, StageCost]:
    return {stage.stage: stage for stage in estimate(config)}


def test_disk_is_what_the_stages_write(config: Config, tiny_videos: Path) -> None:
    found = costs(config)
    assert list(found)[:-1] == ["install@clips", "preprocess@clips", "eventness", "cache", "anchor_eval", "p0"]
    assert all(stage.seconds >= 0 and stage.memory > 50 << 20 for stage in found.values())
    assert found["cache"].disk == 2 * 3 * 6 * 3 * 1280 * 4
    clips = install(open_dataset("local", config.data), config.execution)[0]
    preprocess(clips, tiny_videos, Path("media"), config.execution)
    written = sum(path.stat().st_size for path in Path("media").glob("*.tar"))
    assert found["preprocess@clips"].disk == pytest.approx(2 * written, rel=0.25)  # tar headers are left out


@pytest.mark.usefixtures("quick")
def test_what_is_in_the_store_costs_no_time(config: Config, tiny_videos: Path) -> None:
    clips = install(open_dataset("local", config.data), config.execution)[0]
    write_table(Path("data/install/clips/clips.tsv"), clips, Clip)
    preprocess(clips[:2], tiny_videos, Path("media"), config.execution)
    assert "2 of 6 clips are in the store" in costs(config)["preprocess@clips"].note
    preprocess(clips, tiny_videos, Path("media"), config.execution)
    assert costs(config)["preprocess@clips"].seconds == 0


@pytest.mark.usefixtures("quick")
def test_videos_that_are_absent_are_stood_in_for(config: Config, tiny_videos: Path) -> None:
    for path in tiny_videos.glob("*.mp4"):
        path.unlink()
    assert "6 of 6 videos are not there" in costs(config)["install@clips"].note


@pytest.mark.usefixtures("quick")
def test_demo_videos_are_made_for_it_or_taken(config: Config) -> None:
    demo = replace(config.data.demo, train=2, val=1, test=1, seconds=8)
    config = replace(config, dataset="demo", data=replace(config.data, demo=demo))
    before = costs(config)["install@clips"]
    assert before.disk > 0
    open_dataset("demo", config.data).prepare(config.execution)
    after = costs(config)["install@clips"]
    assert after.disk == 0


@pytest.mark.usefixtures("quick")
def test_unreadable_samples_are_named(config: Config, tiny_videos: Path) -> None:
    for path in tiny_videos.glob("*.mp4"):
        path.write_bytes(b"no video")
    with pytest.raises(InputError, match=r"none of v0\.mp4, .* can be read \(see: python -m avs doctor\)"):
        estimate(config)
