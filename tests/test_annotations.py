import math
import shutil
from pathlib import Path

import pytest

from avs.core.errors import InputError
from avs.datasets import annotations
from avs.datasets.annotations import AVE_HEADER, Annotation, faults, read_annotations, with_hashed_splits

SHARED = Path(__file__).resolve().parents[2] / "shared"


def ave(folder: Path, *lines: str, **splits: list[str]) -> Path:
    folder.mkdir(exist_ok=True)
    for split, rows in splits.items():
        (folder / f"{split}Set.txt").write_text("\n".join(rows))
    (folder / "Annotations.txt").write_text("\n".join(lines))
    return folder / "Annotations.txt"


def test_ave_rows_keep_commas_dashes_and_order(tmp_path: Path) -> None:
    path = ave(tmp_path, AVE_HEADER, "Bark, dog&-a b&good&2&4", "", "Cat&-a b&good&0&0")
    assert read_annotations(path, 10) == [
        Annotation("-a b.mp4", "Bark, dog", 2, 4, 10),
        Annotation("-a b.mp4", "Cat", 0, 0, 10, number=1),
    ]


def test_a_byte_order_mark_crlf_and_no_header_do_no_harm(tmp_path: Path) -> None:
    (tmp_path / "Annotations.txt").write_bytes("\ufeffDog&x&good&1&2\r\n".encode())
    assert read_annotations(tmp_path, 10) == [Annotation("x.mp4", "Dog", 1, 2, 10)]


def test_splits_are_found_by_row_not_by_video(tmp_path: Path) -> None:
    rows = ["Dog&x&good&0&9", "Cat&x&good&0&9", "Cow&y&good&0&9"]
    path = ave(tmp_path, *rows, train=[rows[1], rows[2]], test=[rows[0]])
    assert [row.split for row in read_annotations(path, 10)] == ["test", "train", "train"]


def test_a_row_in_two_split_files_is_refused(tmp_path: Path) -> None:
    path = ave(tmp_path, "Dog&x&good&0&9", train=["Dog&x&good&0&9"], test=["Dog&x&good&0&9"])
    with pytest.raises(InputError, match=r"testSet.txt, line 1: also in trainSet.txt"):
        read_annotations(path, 10)


def test_a_tsv_may_name_its_splits(tmp_path: Path) -> None:
    path = tmp_path / "rows.tsv"
    path.write_text('video\tlabel\tstart\tend\tsplit\nsub/a.mkv\t"Dog"\t0.5\t3\tval\n')
    assert read_annotations(path, 4) == [Annotation("sub/a.mkv", '"Dog"', 0.5, 3, 4, "val")]


def test_a_tsv_may_say_where_in_its_video_a_clip_begins(tmp_path: Path) -> None:
    path = tmp_path / "rows.tsv"
    path.write_text("video\tlabel\tstart\tend\tclip_start\na.mkv\tDog\t0\t3\t12.5\na.mkv\tDog\t0\t3\t\n")
    assert [(row.number, row.clip_start) for row in read_annotations(path, 4)] == [(0, 12.5), (1, 0)]


def orders(folder: Path, **numbers: object) -> Path:
    import h5py

    path = ave(folder, "Dog&x&good&0&9", "Cat&x&good&0&9", "Cow&y&good&0&9")
    for split, order in numbers.items():
        with h5py.File(folder / f"{split}_order.h5", "w") as file:
            file["order"] = order
    return path


def test_splits_are_found_by_row_number(tmp_path: Path) -> None:
    path = orders(tmp_path, train=[2, 0], test=[1])
    assert [row.split for row in read_annotations(path, 10)] == ["train", "test", "train"]


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ({"train": [0, 1, 3]}, r"train_order\.h5: row 3 of 3 rows"),
        ({"train": [0, 1, -1]}, r"row -1 of 3 rows"),
        ({"train": [0, 1], "val": [1, 2]}, r"val_order\.h5: row 1 is also in train_order\.h5"),
        ({"train": [0, 1]}, "line 3: in none of the split files"),
        ({"train": [0.5]}, "has no list of row numbers"),
        ({"train": [[0]]}, "has no list of row numbers"),
    ],
)
def test_wrong_row_numbers_are_refused(tmp_path: Path, numbers: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_annotations(orders(tmp_path, **numbers), 10)


def test_an_order_file_leads_nowhere_else(tmp_path: Path) -> None:
    import h5py

    path = orders(tmp_path, train=[0, 1, 2])
    (tmp_path / "train_order.h5").rename(tmp_path / "secret.h5")
    with h5py.File(tmp_path / "train_order.h5", "w") as file:
        file["order"] = h5py.ExternalLink("secret.h5", "order")
    with pytest.raises(InputError, match="has no list of row numbers"):
        read_annotations(path, 10)
    (tmp_path / "train_order.h5").write_bytes(b"no such format")
    with pytest.raises(InputError, match="cannot be read as HDF5"):
        read_annotations(path, 10)


def test_an_order_file_fills_no_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three rows in a chunk of more than may be."""
    import h5py

    path = orders(tmp_path)
    with h5py.File(tmp_path / "train_order.h5", "w") as file:
        file.create_dataset("order", data=[0, 1, 2], maxshape=(None,), chunks=(1000,), compression="gzip")
    monkeypatch.setattr(annotations, "_MAX_ROWS", 100)
    with pytest.raises(InputError, match="has no list of row numbers"):
        read_annotations(path, 10)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("Annotations.txt", "Dog&x&good&0", "line 1: 4 fields"),
        ("Annotations.txt", f"{AVE_HEADER}\nDog&x&good&a&3", r"line 2: start \('a'\)"),
        ("Annotations.txt", "Dog&x&good&5&3", "line 1: need 0 <= start"),
        ("Annotations.txt", "Dog&x&good&5&11", r"end \(11\) <= seconds \(10\)"),
        ("Annotations.txt", "Dog&x&good&nan&3", "need 0 <= start"),
        ("Annotations.txt", "&x&good&1&3", "may not be empty"),
        ("Annotations.txt", "Background&x&good&1&3", "is what surrounds events"),
        ("Annotations.txt", AVE_HEADER, r"no annotation row \(one a line: Category&"),
        ("rows.tsv", "video\tlabel\tstart\tend", r"no annotation row \(columns video, label, start, end\)"),
        ("rows.tsv", "video\tlabel\nx\ty", "no column start, end"),
        ("rows.tsv", f"video\tlabel\tstart\tend\n\na\t{'b' * 200_000}\t0\t1", "line 3: field larger than"),
        ("rows.tsv", "video" * 50_000, "line 1: field larger than"),
        ("rows.tsv", "video\tlabel\tstart\tend\tclip_start\na\tb\t0\t1\t-1", r"clip_start \(-1\) must be"),
        ("rows.tsv", "video\tlabel\tstart\tend\tclip_start\na\tb\t0\t1\tinf", r"clip_start \(inf\) must be"),
        ("rows.tsv", "video\tlabel\tstart\tend\tsplit\na\tb\t0\t1\tdev", "split \\('dev'\\) must be one of"),
    ],
)
def test_a_wrong_row_is_refused_with_its_line(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=message):
        read_annotations(tmp_path / name, 10)


def test_rows_in_no_split_file_are_named(tmp_path: Path) -> None:
    path = ave(tmp_path, "Dog&x&good&0&9", "Cat&y&good&0&9", train=["Dog&x&good&0&9"])
    with pytest.raises(InputError, match="line 2: in none of the split files"):
        read_annotations(path, 10)


def test_files_that_are_no_text_are_named(tmp_path: Path) -> None:
    (tmp_path / "Annotations.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="cannot be read as UTF-8"):
        read_annotations(tmp_path, 10)
    with pytest.raises(InputError, match=r"absent\.txt"):
        read_annotations(tmp_path / "absent.txt", 10)


def test_hashed_splits_do_not_move_when_videos_are_added() -> None:
    rows = [Annotation(f"{i}.mp4", "x", 0, 1, 10) for i in range(400)]
    splits = [row.split for row in with_hashed_splits(rows, 0.15, 0.3)]
    assert [row.split for row in with_hashed_splits(rows[::2], 0.15, 0.3)] == splits[::2]
    shares = [splits.count(name) / 400 for name in ("train", "val", "test")]
    assert shares == pytest.approx([0.55, 0.15, 0.3], abs=0.06)
    chosen = [Annotation("0.mp4", "x", 0, 1, 10, "val")]
    assert with_hashed_splits(chosen, 0, 0.9) == chosen
    with pytest.raises(InputError, match=r"400 of 401 rows have no split, first 0\.mp4"):
        with_hashed_splits(rows + chosen, 0, 0.9)


needs_ave = pytest.mark.skipif(not (SHARED / "ave").exists(), reason="AVE's annotations are not beside this checkout")


@needs_ave
def test_the_published_files_of_ave_are_read_whole() -> None:
    rows = read_annotations(SHARED / "ave", 10)
    assert len(rows) == 4143
    assert len({row.video for row in rows}) == 4097
    assert [sum(row.split == s for row in rows) for s in ("train", "val", "test")] == [3339, 402, 402]
    assert len({row.label for row in rows}) == 28


def test_unchecked_rows_come_as_they_are_written(tmp_path: Path) -> None:
    path = tmp_path / "rows.tsv"
    path.write_text("video\tlabel\tstart\tend\tsplit\na\tDog\t5\tx\tdev\n\tCat\t9\t2\ttest\nb\tCow\t0\t3\tval\n")
    first, second, third = read_annotations(path, 10, check=False)
    assert math.isnan(first.start)
    assert (first.split, second.start, second.end) == ("dev", 9, 2)
    assert [len(faults(row)) for row in (first, second, third)] == [2, 2, 0]
    rows = ["Dog&x&good&0&9", "Cat&y&good&0&9"]
    assert [r.split for r in read_annotations(ave(tmp_path, *rows, train=rows[:1]), 10, check=False)] == ["train", ""]


@needs_ave
def test_both_published_forms_of_the_splits_say_the_same(tmp_path: Path) -> None:
    for path in (SHARED / "ave").iterdir():
        if not path.name.endswith("Set.txt"):
            shutil.copy(path, tmp_path)
    assert read_annotations(tmp_path, 10) == read_annotations(SHARED / "ave", 10)
