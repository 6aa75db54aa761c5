import argparse
import json
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest

from avs.cli import main, make_parser
from avs.core.clips import Failed, read_table, write_table
from avs.core.execute import ExecutionParams
from avs.core.media import write_media
from avs.datasets import DataParams, install, open_dataset
from avs.datasets.demo import DemoParams
from avs.datasets.local import LocalParams
from avs.doctor import Finding
from avs.preprocess import MediaShards, preprocess

ROOT = Path(__file__).resolve().parents[1]


def verbs() -> dict[str, argparse.ArgumentParser]:
    return next(a.choices for a in make_parser()._actions if isinstance(a, argparse._SubParsersAction))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with the parameters of the kit."""
    shutil.copy(ROOT / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("verb", verbs())
def test_every_verb_shows_an_example_that_it_takes(verb: str) -> None:
    examples = re.findall(r"example: python -m avs (.+)", verbs()[verb].format_help())
    assert len(examples) == 1
    assert make_parser().parse_args(shlex.split(examples[0])).command == verb


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("table", "metrics.json is not there yet"),
        ("weights nothing", "no published weights of nothing"),
        ("locate . .", ". has no *_segments.csv"),
        ("doctor --dataset nothing", "--dataset ('nothing') must be one of demo"),
        ("doctor --annotations absent.txt", "absent.txt"),
        ("doctor --dataset demo --annotations absent.txt", "give it, or --videos and --annotations"),
        ("doctor --max-failed 5", "--max-failed (5) must be a share from 0 to 1"),
        ("long", "holds neither of EPIC_Sounds_train.csv"),
        ("doctor --seconds 0", "options: top level: seconds (0) must be >= 1"),
        ("doctor", "is not there (run: dvc repro install@clips, or"),
        ("doctor --annotations-only -o params.yaml", "params.yaml: File exists"),
        ("plan absent.mp4", "absent.mp4: no such file"),
        ("plan absent.mp4 --method nothing", "method ('nothing') must be one of"),
        ("plan absent.mp4 --k -1", "k (-1) must be >= 0"),
        ("transcribe absent.mp4 --checkpoint absent.pt --best 0", "--best (0) must be >= 1"),
        ("transcribe absent.mp4 --checkpoint absent.pt --beam 0", "beam (0) must be >= 1"),
        ("transcribe absent.mp4 --checkpoint absent.pt --length-penalty nan", "length_penalty (nan) must be a number"),
        ("export 0-x out", "index.tsv"),
        ("estimate --params absent.yaml", "absent.yaml"),
    ],
)
def test_mistakes_are_told_in_one_line(here: Path, command: str, message: str) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(shlex.split(command))
    assert message in str(stopped.value.code)
    assert "\n" not in str(stopped.value.code)


def test_the_doctor_writes_its_report_and_stops_where_too_much_is_lost(
    here: Path, tiny_videos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [f"v{n}.mp4\tDog\t1\t2" for n in (0, 1, 9)]
    (here / "rows.tsv").write_text("\n".join(["video\tlabel\tstart\tend", *rows]))
    command = f"doctor --videos {tiny_videos} --annotations rows.tsv --seconds 3 -o report"
    with pytest.raises(SystemExit, match="1 of 3 rows cannot be used"):
        main(shlex.split(command))
    assert ("2-v9", "missing") in {(f.key, f.problem) for f in read_table(here / "report/findings.tsv", Finding)}
    assert (here / "report/doctor.png").stat().st_size > 10_000
    main(shlex.split(f"{command} --max-failed 0.5"))
    main(shlex.split(f"{command} --annotations-only --max-failed 0"))
    assert "3 rows" in capsys.readouterr().out


def test_a_clip_is_exported_as_files(here: Path, tiny_videos: Path) -> None:
    (here / "rows.tsv").write_text(
        "video\tlabel\tstart\tend\nv0.mp4\tDog\t1\t2\nv1.mp4\tCat\t0\t1\nv1.mp4\tCow\t1\t3\n"
    )
    data = DataParams(DemoParams(), LocalParams(str(tiny_videos), "rows.tsv", seconds=3))
    inline = ExecutionParams(backend="inline")
    clips = install(open_dataset("local", data), inline)[0]
    preprocess(clips, tiny_videos, Path("data/media/clips"), inline)
    write_table(Path("data/media/clips/failures.tsv"), [], Failed)
    shards = MediaShards(Path("data/media/clips"))
    for name in ("0-v0", "v0", "v0.mp4"):
        main(["export", name, "out"])
        files = {str(p.relative_to("out")): p.read_bytes() for p in Path("out").rglob("*") if p.is_file()}
        assert files == shards.files(shards.clips[0])
        assert set(files) == {"audio.wav", "frames/0.jpg", "frames/1.jpg", "frames/2.jpg"}
        shutil.rmtree("out")
    with pytest.raises(SystemExit, match="2 clips are named 'v1': give a key, for example 1-v1, 2-v1"):
        main(["export", "v1", "out"])
    with pytest.raises(SystemExit, match="0 clips are named 'v3': give a key, for example"):
        main(["export", "v3", "out"])


def test_anchors_of_long_videos(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = ["video_id,start_timestamp,stop_timestamp,class", "P01_01,00:00:02.000,00:00:03.500,click"]
    annotations = here / "data/epic_sounds/annotations/EPIC_Sounds_validation.csv"
    annotations.parent.mkdir(parents=True)
    annotations.write_text("\n".join(rows))
    audio = np.zeros(6 * 16000)
    audio[2 * 16000 : 3 * 16000] = 0.5 * np.sin(np.arange(16000))
    frames = [np.full((32, 32, 3), 20 * second, np.uint8) for second in range(6)]
    (here / "data/epic_sounds/videos").mkdir()
    write_media(here / "data/epic_sounds/videos/P01_01.mp4", frames, 1, audio=(audio * 32767).astype(np.int16))
    main(["long", "--k", "1", "--budget", "2", "--frames", "seen"])
    found = json.loads(capsys.readouterr().out)
    assert found["videos"] == 1
    assert found["anchors"]["recall_d0"] == 1
    assert "2.jpg" in {path.name for path in (here / "seen/P01_01").iterdir()}
    assert len(list((here / "seen/P01_01").iterdir())) == 2


def test_the_list_of_weights_names_size_and_licence(capsys: pytest.CaptureFixture[str]) -> None:
    main(["weights"])
    rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    docs = (Path(__file__).parents[1] / "docs/eventness.md").read_text(encoding="utf-8")
    assert len(rows) >= 6
    for name, size, licence, source in rows:
        assert "unknown" not in size + licence
        assert "#sha256=" in source
        row = next((line for line in docs.splitlines() if line.startswith(f"| `{name}` |")), f"{size} | {licence}")
        assert f"{size} | {licence}" in row


def test_aves_clips_are_located_on_youtube(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "Annotations.txt").write_text("Dog&abcdefghijk&good&1&3\nCat&aaaaaaaaaaa&good&0&2\n")
    (here / "balanced_train_segments.csv").write_text('# YTID, start\nabcdefghijk, 30.000, 40.000, "/m/0"\n')
    main(["locate", ".", "."])
    assert "1 rows, 1 without a place, written: data/youtube/rows.tsv" in capsys.readouterr().out
    assert (here / "data/youtube/rows.tsv").read_text().splitlines()[1] == "abcdefghijk\tDog\t1\t3\t\t30"
