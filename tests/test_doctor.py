import os
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from avs.core.clips import read_table
from avs.core.errors import InputError
from avs.core.execute import ExecutionParams
from avs.core.media import write_media
from avs.datasets.annotations import Annotation, read_annotations
from avs.doctor import PROBLEMS, Diagnosis, Finding, diagnose
from avs.report.doctor import draw_diagnosis, print_diagnosis, write_findings

SHARED = Path(__file__).resolve().parents[2] / "shared"
INLINE = ExecutionParams(backend="inline")
ROW = Annotation("v0.mp4", "Dog", 1, 2, 3, "train")


def found(rows: list[Annotation], folder: Path | None = None, full: bool = False) -> set[tuple[str, str]]:
    rows = [replace(row, number=number) for number, row in enumerate(rows)]
    return {(f.key, f.problem) for f in diagnose(rows, folder, INLINE, full=full).findings}


def test_a_healthy_data_set_has_no_finding(tiny_videos: Path) -> None:
    rows = [replace(ROW, video=f"v{n}.mp4", split=split) for n, split in enumerate(("train", "val", "test"))]
    # the fixture's pictures are small
    assert {problem for _, problem in found(rows, tiny_videos)} == {"small"}
    assert {problem for _, problem in found(rows, tiny_videos, full=True)} == {"small"}


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"start": 2, "end": 1}, "bad_annotation"),
        ({"end": 4}, "bad_annotation"),
        ({"start": -1}, "bad_annotation"),
        ({"start": float("nan")}, "bad_annotation"),
        ({"label": "background"}, "bad_annotation"),
        ({"label": ""}, "bad_annotation"),
        ({"split": "dev"}, "bad_annotation"),
        ({"split": ""}, "no_split"),
        ({"start": 1, "end": 1}, "no_event"),
        ({"label": "dog "}, "class_spelling"),
    ],
)
def test_a_wrong_row_is_found(change: dict, problem: str) -> None:
    rows = [ROW, replace(ROW, video="b.mp4", start=0), replace(ROW, video="c.mp4", **change)]
    assert ("2-c", problem) in found(rows)
    assert not {(key, p) for key, p in found(rows) if key in ("0-v0", "1-b")}


def test_rows_are_compared_with_each_other() -> None:
    rows = [ROW, ROW, replace(ROW, video="b.mp4"), replace(ROW, video="b.mp4", label="Cat", split="test")]
    assert found(rows) == {("1-v0", "same_row"), ("2-b", "two_splits"), ("3-b", "two_splits"), ("-", "untrained_class")}


def test_a_repeated_row_counts_whatever_its_split() -> None:
    assert ("1-v0", "same_row") in found([ROW, replace(ROW, split="test")])


def test_files_are_looked_at(tiny_videos: Path) -> None:
    (tiny_videos / "v1.mp4").write_bytes(b"")
    shutil.copy(tiny_videos / "v2.mp4", tiny_videos / "copy.mp4")
    pictures = [np.full((160, 160, 3), 9, np.uint8)] * 30
    write_media(tiny_videos / "silent.mp4", pictures, 10, np.zeros(48000, np.int16))
    write_media(tiny_videos / "early.mp4", pictures[:15], 10, np.zeros(24000, np.int16))
    write_media(tiny_videos / "mute.mp4", pictures, 10)
    names = ["absent", "v1", "v2", "copy", "silent", "early", "mute", "../secret"]
    rows = [replace(ROW, video=f"{name}.mp4", split="test" if name == "copy" else "train") for name in names]
    expected = {
        ("0-absent", "missing"),
        ("1-v1", "unreadable"),
        ("2-v2", "same_bytes"),
        ("2-v2", "two_splits"),
        ("3-copy", "same_bytes"),
        ("3-copy", "two_splits"),
        ("4-silent", "silent"),
        ("5-early", "ends_early"),
        ("5-early", "silent"),
        ("6-mute", "no_audio"),
        ("7-.._secret", "unreadable"),
    }
    for full in (False, True):
        assert {(key, problem) for key, problem in found(rows, tiny_videos, full) if problem != "small"} == expected


def test_clips_of_one_long_video_are_looked_at_each(tiny_videos: Path) -> None:
    pictures = [np.full((160, 160, 3), 10 * t, np.uint8) for t in range(9)]
    sound = np.zeros(9 * 16000, np.int16)
    sound[5 * 16000 :: 2] = 9000
    write_media(tiny_videos / "long.mp4", pictures, 1, sound)
    rows = [replace(ROW, video="long.mp4", clip_start=start, number=n) for n, start in enumerate((0, 5, 8, 20))]
    unused = replace(ROW, video="absent.mp4", number=9, used=False)
    for full in (False, True):
        findings = diagnose([*rows, unused], tiny_videos, INLINE, full=full).findings
        assert {(f.key, f.problem) for f in findings if f.video and f.problem not in ("odd_rate", "no_audio")} == {
            ("0-long", "silent"),
            ("2-long", "ends_early"),
            ("3-long", "ends_early"),
        }


def test_what_is_no_place_or_no_file_is_told_and_not_looked_at(tiny_videos: Path) -> None:
    os.mkfifo(tiny_videos / "pipe.mp4")
    rows = [
        ROW,
        replace(ROW, video="v0.mp4", clip_start=float("nan"), number=1),
        replace(ROW, video="pipe.mp4", number=2),
    ]
    findings = diagnose(rows, tiny_videos, ExecutionParams(workers=2)).findings
    assert {(f.key, f.problem) for f in findings if f.severity in ("stop", "lost")} >= {
        ("1-v0", "bad_annotation"),
        ("2-pipe", "unreadable"),
    }
    with pytest.raises(InputError, match="no row to look at"):
        diagnose([], tiny_videos, INLINE)


def test_something_to_learn_from_and_something_to_judge_by_are_needed() -> None:
    background = replace(ROW, video="b.mp4", split="test", start=1, end=1)
    assert ("-", "empty_split") in found([ROW, background])
    assert ("-", "empty_split") in found([replace(ROW, split="val")])
    assert ("-", "empty_split") not in found([ROW, replace(ROW, video="b.mp4", split="val")])


def test_the_share_of_lost_rows_decides() -> None:
    def diagnosis(*problems: str) -> Diagnosis:
        findings = [Finding(f"{n}-v", "v", p, PROBLEMS[p].severity, "", "") for n, p in enumerate(problems)]
        return Diagnosis([ROW] * 10, findings)

    assert diagnosis().verdict(0) == ""
    assert diagnosis("missing").verdict(0.1) == ""
    assert diagnosis("missing", "truncated").verdict(0.1) == "more than a share of 0.1"
    assert diagnosis("silent", "short", "rotated").verdict(0) == ""
    assert diagnosis(*["missing"] * 10).verdict(1) == "none is left"
    assert "no stage will start" in diagnosis("bad_annotation").verdict(0.5)


def test_findings_are_written_printed_and_drawn(tmp_path: Path) -> None:
    many = [replace(ROW, video=f"{n}.mp4", start=1, end=1, number=n) for n in range(9)]
    diagnosis = diagnose([*many, replace(ROW, video="x.mp4", label="[b]動画 $\\frac$", number=9)], None, INLINE)
    write_findings(tmp_path / "findings.tsv", diagnosis)
    assert read_table(tmp_path / "findings.tsv", Finding) == diagnosis.findings
    console = Console(record=True, width=140, file=(tmp_path / "screen").open("w"))
    print_diagnosis(diagnosis, console)
    text = console.export_text()
    assert all(part in text for part in ("10 rows (10 train)", "no_event", "… 3 more", PROBLEMS["no_event"].remedy))
    for rows in (diagnosis, replace(diagnosis, findings=[])):
        draw_diagnosis(tmp_path / "doctor.png", rows)
        assert np.asarray(Image.open(tmp_path / "doctor.png")).std() > 10


@pytest.mark.skipif(not (SHARED / "ave").exists(), reason="AVE's annotations are not beside this checkout")
def test_the_known_problems_of_ave_are_found() -> None:
    diagnosis = diagnose(read_annotations(SHARED / "ave", 10, check=False), None, INLINE)
    assert len(diagnosis.rows) == 4143
    assert len({f.video for f in diagnosis.findings if f.problem == "two_splits"}) == 18
    assert [f.key for f in diagnosis.findings if f.problem == "no_event"] == ["26-VWi2ENBuTbw"]
    assert Counter(f.problem for f in diagnosis.findings) == {"two_splits": 37, "no_event": 1}
    assert diagnosis.verdict(0) == ""


@pytest.mark.skipif(not (SHARED / "pairs_hard").exists(), reason="the hard clips are not beside this checkout")
@pytest.mark.parametrize("full", [False, True])
def test_every_hard_clip_is_told(tmp_path: Path, full: bool) -> None:
    names = {"dash_first.mp4": "-dashFirst0.mp4", "unicode_name.mp4": "ünï_код_動画 1.mp4"}
    for path in (SHARED / "pairs_hard/videos").iterdir():
        (tmp_path / names.get(path.name, path.name)).symlink_to(path)
    rows = read_annotations(SHARED / "pairs_hard/Annotations.txt", 10)
    diagnosis = diagnose([replace(row, split="train") for row in rows], tmp_path, ExecutionParams(workers=2), full=full)
    assert [f.problem for f in diagnosis.findings if not f.video] == ["empty_split"]  # all are in train
    assert sorted((Path(f.video).stem, f.problem) for f in diagnosis.findings if f.video) == [
        ("audio_starts_0.4s_late", "late_audio"),
        ("corrupt_bytes", "damaged"),
        ("long_11s", "long"),
        ("no_audio", "no_audio"),
        ("portrait_rotated", "rotated"),
        ("short_9.3s", "short"),
        ("tiny_30fps_64x48", "small"),
        ("truncated_noindex", "unreadable"),
        ("truncated_tail", "truncated"),
        ("vfr", "odd_rate"),
        ("zero_bytes", "unreadable"),
    ]
    assert (diagnosis.lost, diagnosis.looked_at) == (3, 14)
