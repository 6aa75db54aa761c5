import io
import os
from pathlib import Path

import pytest

from avs.core import shards
from avs.core.shards import Facts, Named, pack_shards, packed, read_members
from avs.core.store import ItemStore, item_key

SIZE = 4000


def stored(number: int, size: int = 600) -> Named:
    """An item of one member, in the store `kind`."""
    key = item_key(number=number)
    ItemStore("kind").save(key, packed({"a.txt": b"%d" % number * size}))
    return Named(key, f"clip {number}")


def unpack(item: bytes) -> tuple[dict[str, bytes], Facts]:
    members = dict(read_members(io.BytesIO(item)))
    return members, {"first": members["a.txt"][:3].decode()}


def pack(items: list[Named], out: Path) -> list[Facts]:
    return pack_shards(ItemStore("kind"), items, out, unpack, SIZE)


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def inodes(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_ino for path in sorted(folder.iterdir())}


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The shards that were written anew."""
    names: list[str] = []
    write = shards._write
    monkeypatch.setattr(shards, "_write", lambda *args: (names.append(args[2].name), write(*args))[1])
    return names


def test_every_item_is_read_from_where_its_facts_say(tmp_path: Path) -> None:
    items = [stored(number) for number in range(100, 130)]
    facts = pack(items, tmp_path)
    assert len({fact["shard"] for fact in facts}) > 3
    for number, fact in enumerate(facts, 100):
        with (tmp_path / fact["shard"]).open("rb") as file:
            file.seek(fact["offset"])
            assert list(read_members(file, 1)) == [(f"clip {number}/a.txt", b"%d" % number * 600)]
        assert fact["first"] == str(number)


def test_one_more_item_at_the_end_writes_one_or_two_shards(tmp_path: Path, written: list[str]) -> None:
    items = [stored(number) for number in range(100, 140)]
    pack(items[:-1], tmp_path / "old")
    before = len(written)
    pack(items, tmp_path / "new")
    assert 1 <= len(written) - before <= 2
    assert set(inodes(tmp_path / "old").values()) & set(inodes(tmp_path / "new").values())


def test_one_more_item_in_between_leaves_far_shards_as_they_are(tmp_path: Path, written: list[str]) -> None:
    items = [stored(number) for number in range(100, 400)]
    pack(items[:5] + items[6:], tmp_path / "old")
    total = len(written)
    facts = pack(items, tmp_path / "new")
    assert len(written) - total < total / 2
    assert facts == pack(items, tmp_path / "again")


def test_bytes_and_facts_do_not_depend_on_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    items = [stored(number) for number in range(100, 140)]
    for count in (3, 17, 39):
        pack(items[:count], tmp_path / str(count))
    facts = pack(items, tmp_path / "late")
    monkeypatch.setenv("AVS_STORE", str(tmp_path / "other"))
    items = [stored(number) for number in range(100, 140)]
    assert pack(items, tmp_path / "fresh") == facts
    assert content(tmp_path / "fresh") == content(tmp_path / "late")


@pytest.mark.parametrize("change", [lambda p: p.write_bytes(b"?" * p.stat().st_size), lambda p: os.truncate(p, 7)])
def test_a_shard_that_was_changed_is_written_again(change, tmp_path: Path, written: list[str]) -> None:
    items = [stored(number) for number in range(100, 110)]
    pack(items, tmp_path / "a")
    good = content(tmp_path / "a")
    first = tmp_path / "a/shard-00000.tar"
    change(first)
    os.utime(first, ns=(0, 0))
    written.clear()
    pack(items, tmp_path / "b")
    assert content(tmp_path / "b") == good
    assert written == ["shard-00000.tar"]


def test_shards_are_packed_where_no_links_can_be_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: list[str]
) -> None:
    def refuse(*args: object) -> None:
        raise OSError("another disk")

    monkeypatch.setattr(os, "link", refuse)
    items = [stored(number) for number in range(100, 110)]
    assert pack(items, tmp_path / "a") == pack(items, tmp_path / "a")
    assert len(written) == 2 * len(content(tmp_path / "a"))


def test_a_kept_shard_goes_with_the_last_that_has_it(tmp_path: Path) -> None:
    """It is another name of the same file, and takes no room of its own."""
    items = [stored(number) for number in range(100, 110)]
    pack(items, tmp_path / "a")
    kept = ItemStore("shards").folder
    assert {path.stat().st_ino for path in kept.glob("*/*.tar")} == set(inodes(tmp_path / "a").values())
    for path in (tmp_path / "a").iterdir():
        path.unlink()
    pack([stored(7)], tmp_path / "b")
    assert [path.stat().st_ino for path in kept.glob("*/*.tar")] == list(inodes(tmp_path / "b").values())
    assert len([path for path in kept.glob("*/*") if path.suffix != ".tar"]) == 1
