from pathlib import Path

import numpy as np
import pytest

from avs.core.clips import (
    Clip,
    Failed,
    check_failures,
    class_names,
    locate,
    read_table,
    targets,
    write_table,
)
from avs.core.errors import InputError


def clip(key: str = "0-a", label: str = "Dog", start: float = 0, end: float = 10) -> Clip:
    return Clip(key, "train", label, start, end, 10, "a.mp4", "00")


@pytest.mark.parametrize(
    ("start", "end", "seconds"),
    [(0, 10, range(10)), (2, 4, [2, 3]), (0, 0, []), (2.5, 2.6, [2]), (2.5, 4, [2, 3]), (9, 10, [9]), (3, 3, [])],
)
def test_a_second_is_an_event_iff_it_overlaps(start: float, end: float, seconds: list[int]) -> None:
    assert np.flatnonzero(clip(start=start, end=end).event()).tolist() == list(seconds)


def test_tables_survive_odd_names(tmp_path: Path) -> None:
    rows = [clip(label="Bark, loud"), clip(key='1-"tab\there"', label="動画 \\ 'x'", start=3.0000001)]
    write_table(tmp_path / "t.tsv", rows, Clip)
    assert read_table(tmp_path / "t.tsv", Clip) == rows


def test_an_alien_table_is_refused_with_its_line(tmp_path: Path) -> None:
    write_table(tmp_path / "t.tsv", [Failed("k", "v", "r")], Failed)
    with pytest.raises(InputError, match=r"t\.tsv, line 2: not a Clip row"):
        read_table(tmp_path / "t.tsv", Clip)
    with pytest.raises(InputError, match="dvc repro"):
        read_table(tmp_path / "absent.tsv", Clip)
    (tmp_path / "t.tsv").write_text("key\tvideo\treason\n" + "x" * 200_000)
    with pytest.raises(InputError, match=r"t\.tsv, line 1: not a Failed row: field larger than field limit"):
        read_table(tmp_path / "t.tsv", Failed)
    write_table(tmp_path / "t.tsv", [clip(end=9)], Clip)
    text = (tmp_path / "t.tsv").read_text()
    for seconds in ("0", "9" * 30):
        (tmp_path / "t.tsv").write_text(text.replace("\t10\t", f"\t{seconds}\t"))
        with pytest.raises(
            InputError, match=rf"t\.tsv, line 2: not a Clip row: seconds \({seconds}\) must be from 1 to"
        ):
            read_table(tmp_path / "t.tsv", Clip)


def test_failures_are_tolerated_up_to_the_limit() -> None:
    failed = [Failed("3-x", "x.mp4", "file is empty")]
    check_failures(failed, 20, 0.05)
    with pytest.raises(InputError, match=r"2 of 20 clips failed.*3-x: file is empty"):
        check_failures(failed * 2, 20, 0.05)
    with pytest.raises(InputError, match="1 of 1"):
        check_failures(failed, 1, 1.0)
    with pytest.raises(InputError, match="no clip"):
        check_failures([], 0, 1.0)


def test_background_is_zero_and_classes_are_alphabetical() -> None:
    clips = [clip(label="b", start=1, end=3), clip(label="a", start=0, end=1)]
    assert class_names(clips) == ["background", "a", "b"]
    assert targets(clips, class_names(clips)).tolist() == [[0, 2, 2, *[0] * 7], [1, *[0] * 9]]
    silent = clip(label="never", start=4, end=4)
    assert class_names([*clips, silent]) == ["background", "a", "b"]
    assert not targets([silent], class_names(clips)).any()


def test_paths_may_not_leave_their_folder(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/link").symlink_to(tmp_path)
    assert locate(tmp_path / "in", "link/b c.mp4") == tmp_path / "in/link/b c.mp4"
    for name in ("../b.mp4", "/etc/passwd", "a/../b.mp4", "", "."):
        with pytest.raises(InputError, match="must be a path below"):
            locate(tmp_path / "in", name)
