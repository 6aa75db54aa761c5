import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from avs.core import store
from avs.core.errors import InputError
from avs.core.store import ItemStore, atomic, item_key, sha256_file, write_json, write_metrics


def test_an_interrupted_write_leaves_nothing(tmp_path: Path) -> None:
    target = tmp_path / "out.bin"
    target.write_bytes(b"old")

    def interrupted() -> None:
        with atomic(target) as file:
            file.write(b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        interrupted()
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_disk_that_is_full_is_told_with_the_file(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"No space left on device: '.*out\.bin'"), atomic(tmp_path / "out.bin"):
        raise OSError(errno.ENOSPC, "No space left on device")


def test_written_files_follow_the_umask(tmp_path: Path) -> None:
    previous = os.umask(0o027)
    try:
        write_json(tmp_path / "x.json", {})
    finally:
        os.umask(previous)
    assert stat.S_IMODE((tmp_path / "x.json").stat().st_mode) == 0o640


def test_keys_depend_on_every_part_and_not_on_their_order() -> None:
    assert item_key(a=1, b="x") == item_key(b="x", a=1)
    assert len({item_key(a=1), item_key(a=2), item_key(a="1"), item_key(b=1)}) == 4


def test_items_come_back_whole() -> None:
    items = ItemStore("kind")
    items.save_array("ab12", np.arange(6.0).reshape(2, 3))
    assert "ab12" in items
    np.testing.assert_array_equal(items.load_array("ab12"), np.arange(6.0).reshape(2, 3))


@pytest.mark.parametrize("damage", [lambda b: b[:-1], lambda b: b[:20], lambda b: b[:-1] + b"?", lambda b: b""])
def test_a_damaged_item_is_removed_and_reported(damage) -> None:
    items = ItemStore("kind")
    items.save("ab12", b"payload")
    items.path("ab12").write_bytes(damage(items.path("ab12").read_bytes()))
    with pytest.raises(InputError, match="damaged and has been removed"):
        items.load("ab12")
    assert "ab12" not in items


def test_pack_computes_each_missing_key_once_and_keeps_what_was_done() -> None:
    items = ItemStore("kind")
    asked: list[list[int]] = []

    def compute(positions: list[int], fail_after: int = 99) -> Iterator[tuple[int, np.ndarray]]:
        asked.append(positions)
        for count, position in enumerate(positions):
            if count == fail_after:
                raise RuntimeError("killed")
            yield position, np.full(2, position)

    keys = ["aa", "bb", "aa", "cc"]
    with pytest.raises(RuntimeError):
        items.pack(keys, lambda positions: compute(positions, fail_after=2))
    packed, made = items.pack(keys, compute)
    assert asked == [[0, 1, 3], [3]]
    assert made == 1
    np.testing.assert_array_equal(packed[:, 0], [0, 1, 0, 3])


def test_packed_arrays_may_be_in_any_order_but_have_one_shape(tmp_path: Path) -> None:
    items = ItemStore("kind")
    arrays = [np.asfortranarray(np.arange(6.0).reshape(2, 3) + n) for n in range(2)]
    for key, array in zip(("aa", "bb"), arrays, strict=True):
        items.save_array(key, array)
    np.testing.assert_array_equal(items.pack(["bb", "aa"], lambda positions: [])[0], np.stack(arrays[::-1]))
    items.pack_into(tmp_path / "packed.npy", ["bb", "aa"], lambda positions: [])
    np.save(tmp_path / "plain.npy", np.stack(arrays[::-1]))
    assert (tmp_path / "packed.npy").read_bytes() == (tmp_path / "plain.npy").read_bytes()
    items.save_array("cc", np.zeros((1, 3)))
    with pytest.raises(ValueError, match="another shape"):
        items.pack(["aa", "cc"], lambda positions: [])


def test_the_digest_of_a_file_is_known_until_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[Path] = []
    monkeypatch.setattr(store, "sha256_file", lambda path: (hashed.append(path), sha256_file(path))[1])
    path = tmp_path / "video"
    path.write_bytes(b"one")
    assert store.known_sha256(path) == store.known_sha256(path) == sha256_file(path)
    assert len(hashed) == 2  # it is too new
    os.utime(path, (1, 1))
    assert store.known_sha256(path) == store.known_sha256(path) == sha256_file(path)
    assert len(hashed) == 3
    path.write_bytes(b"two")
    os.utime(path, (2, 2))
    assert store.known_sha256(path) == sha256_file(path)
    assert len(hashed) == 4


def test_sweep_removes_only_old_leftovers() -> None:
    items = ItemStore("kind")
    items.save("ab12", b"x")
    old, new = (items.path("ab12").parent / name for name in (".partial-old", ".partial-new"))
    for leftover in (old, new):
        leftover.write_bytes(b"half")
    os.utime(old, (0, 0))
    items.sweep()
    assert (old.exists(), new.exists(), "ab12" in items) == (False, True, True)


def test_metrics_hold_rounded_defined_numbers(tmp_path: Path) -> None:
    write_metrics(tmp_path / "m.json", {"b": float("nan"), "a": {"x": 0.12345678}, "n": 3})
    assert (tmp_path / "m.json").read_text() == '{\n "a": {\n  "x": 0.123457\n },\n "n": 3\n}\n'


def test_roots_follow_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AVS_STORE", str(tmp_path / "s"))
    assert (store.root(), store.raw_root()) == (tmp_path / "s", tmp_path / "s" / "raw")
    monkeypatch.setenv("AVS_DATA_DIR", str(tmp_path / "d"))
    monkeypatch.delenv("AVS_STORE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "c"))
    assert (store.root(), store.raw_root()) == (tmp_path / "c" / "avs", tmp_path / "d")


def test_results_are_copied_out_where_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_json(Path("results/p0/metrics.json"), {"a": 1})
    write_json(Path("results/p0/plots/arms.json"), [])
    Path("params.yaml").write_text("k: 2\n")
    monkeypatch.delenv("AVS_RUNS_DIR", raising=False)
    assert store.runs_root() is None
    monkeypatch.setenv("AVS_RUNS_DIR", str(tmp_path / "runs"))
    runs = store.runs_root()
    assert runs == tmp_path / "runs"
    store.copy_results("cache", runs)
    assert list(runs.iterdir()) == []
    store.copy_results("p0", runs)
    write_json(Path("results/report/avs/page.json"), {})
    store.copy_results("report@avs", runs)
    copied = {str(path.relative_to(tmp_path / "runs")) for path in (tmp_path / "runs").rglob("*") if path.is_file()}
    assert copied == {"p0/metrics.json", "p0/plots/arms.json", "p0/params.yaml"} | {
        "report@avs/page.json",
        "report@avs/params.yaml",
    }
    assert (tmp_path / "runs/p0/metrics.json").read_bytes() == Path("results/p0/metrics.json").read_bytes()


def test_where_results_cannot_be_copied_is_told_before_and_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    monkeypatch.setenv("AVS_RUNS_DIR", str(tmp_path / "file/runs"))
    with pytest.raises(InputError, match=r"AVS_RUNS_DIR \(.*file/runs\) cannot be made: Not a directory"):
        store.runs_root()
    write_json(Path("results/p0/metrics.json"), {"a": 1})
    store.copy_results("p0", tmp_path / "file")
    assert "results could not be copied: Not a directory" in capsys.readouterr().err


def end_as_torch_save_does() -> None:
    try:
        raise OSError(errno.ENOSPC, "No space left on device")
    finally:
        raise RuntimeError("unexpected pos 99648 vs 99542")


def test_what_the_disk_said_is_not_buried(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"No space left on device: '.*network.pt'"), atomic(tmp_path / "network.pt"):
        end_as_torch_save_does()
    assert list(tmp_path.iterdir()) == []
