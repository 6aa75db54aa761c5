"""The published layout: every spelling of a key is found, a folder that nobody vouches for can do no harm."""

import hashlib
import json
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from speech_clips import clip_of, write_speech

from avs.cli import main
from avs.core.errors import InputError
from avs.core.execute import ExecutionParams
from avs.lips.cache import MuseFeatures, muse_precompute
from avs.lips.exchange import export_published, import_published, verify_features
from avs.lips.features import MuseParams
from avs.lips.media import SpeechShards
from avs.lips.preflight import check_length
from avs.lips.published import PublishedCache, cache_key, read_features

ROOT = Path(__file__).resolve().parents[1]
INLINE = ExecutionParams(backend="inline", workers=1, devices="cpu")
LENGTHS = {"a": 3, "b": 5, "c": 2}


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("avs.lips.features._CPU_CHUNK", 5)


def sha1(text: str) -> str:
    return hashlib.sha1(text.encode()).hexdigest()


def put(folder: Path, key: str, frames: int = 3) -> Path:
    path = folder / key[:2] / f"{key}.npy"
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, np.random.default_rng(int(key[:8], 16)).normal(size=(frames, 512)).astype(np.float32))
    return path


@pytest.fixture
def media(tmp_path: Path) -> Path:
    return write_speech(tmp_path / "media", LENGTHS)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """A folder as the original script leaves it: no word of a checkpoint."""
    for name, frames in LENGTHS.items():
        put(tmp_path / "cache", sha1(f"{name}.mp4||"), frames)
    return tmp_path / "cache"


def test_the_key_is_the_published_one() -> None:
    """Figures of the original: no times, integer zero and floating zero have three keys, and are one clip here."""
    assert cache_key("v.mp4") == cache_key("v.mp4", 0, 0.0) == cache_key("v.mp4", 0.0) == sha1("v.mp4||")
    assert cache_key("v.mp4", 1, 2.5) == cache_key("v.mp4", 1.0, 2.5) == sha1("v.mp4|1.0|2.5")


@pytest.mark.parametrize("times", ["|", "0|", "0.0|", "0|0", "0.0|0.0", "|0.0"])
@pytest.mark.parametrize("video", ["lips/a.mp4", "./lips/a.mp4", "/old/place/lips/a.mp4", "{here}/lips/a.mp4"])
def test_old_keys_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, video: str, times: str) -> None:
    monkeypatch.chdir(tmp_path)
    path = put(tmp_path / "cache", sha1(f"{video.format(here=tmp_path)}|{times}"))
    found = PublishedCache(tmp_path / "cache", "/old/place").find(clip_of("a", 3, video="lips/a.mp4"))
    assert found == path


@pytest.mark.parametrize("times", ["1|2.5", "1.0|2.5"])
def test_old_keys_of_parts_are_found(tmp_path: Path, times: str) -> None:
    path = put(tmp_path, sha1(f"a.mp4|{times}"))
    assert PublishedCache(tmp_path).find(clip_of("a", 3, video="a.mp4", start=1.0, end=2.5)) == path
    assert PublishedCache(tmp_path).find(clip_of("a", 3, video="a.mp4", start=1.0)) is None


def index(folder: Path, *rows: dict) -> None:
    (folder / "index.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def row(video: str, dataset: str = "grid", start: object = None) -> dict:
    key = sha1(f"{video}|{'' if start is None else start}|")
    times = {"start_time": start, "end_time": None}
    return {"dataset": dataset, "split": "train", "video": video, "cache_path": f"/x/{key[:2]}/{key}.npy"} | times


def test_the_index_finds_paths_of_another_machine(tmp_path: Path) -> None:
    rows = [row("/net/x/lips/a.mp4", start=0), row("/net/x/lips/ba.mp4"), row("/y/lips/a.mp4", dataset="lrs2")]
    paths = [put(tmp_path, Path(each["cache_path"]).stem) for each in rows]
    index(tmp_path, *rows)
    cache = PublishedCache(tmp_path)
    assert cache.find(clip_of("a", 3, video="lips/a.mp4")) == paths[0]
    assert cache.find(clip_of("a", 3, video="a.mp4")) == paths[0]
    assert cache.find(clip_of("a", 3, video="other/a.mp4")) is None
    assert cache.find(clip_of("a", 3, video="a.mp4", dataset_name="vox2")) is None


def test_a_name_that_two_videos_end_in_is_no_guess(tmp_path: Path) -> None:
    rows = [row("/net/s1/a.mp4"), row("/net/s2/a.mp4")]
    for each in rows:
        put(tmp_path, Path(each["cache_path"]).stem)
    index(tmp_path, *rows)
    (problem,) = PublishedCache(tmp_path).problems([clip_of("a", 3, video="a.mp4")])
    assert "2 videos in index.jsonl end in its name, first /net/s1/a.mp4" in str(problem)


def test_imported_features_are_what_the_stage_and_its_reader_give(media: Path, cache: Path, tmp_path: Path) -> None:
    digest, count, missing = import_published(media, cache, MuseParams())
    assert (count, missing) == (3, [])
    p = MuseParams(f"imported:{digest}")
    assert muse_precompute(media, tmp_path / "out", p, INLINE) == {"clips": 3, "frames": 10, "computed": 0}
    features = MuseFeatures(tmp_path / "out", p)
    for clip in SpeechShards(media).clips:
        np.testing.assert_array_equal(features.load(clip), np.load(PublishedCache(cache).find(clip)))
    assert (features.meta["checkpoint_sha256"], features.meta["trained"]) == ("unknown", "unknown")
    with pytest.raises(InputError, match=r"checkpoint unknown .*not of checkpoint untrained"):
        MuseFeatures(tmp_path / "out", MuseParams())
    with pytest.raises(InputError, match=f"not imported:{'0' * 64}"):
        MuseFeatures(tmp_path / "out", MuseParams(f"imported:{'0' * 64}"))


def test_what_an_import_lacks_is_told_then_and_refused_later(media: Path, cache: Path, tmp_path: Path) -> None:
    (cache / sha1("b.mp4||")[:2] / f"{sha1('b.mp4||')}.npy").unlink()
    digest, count, missing = import_published(media, cache, MuseParams())
    assert (count, [str(problem) for problem in missing]) == (2, ["b: MuSE cache miss"])
    with pytest.raises(InputError, match=r"MuSE cache miss: 1 of 3 clips, first b \(run: python -m avs muse-cache"):
        muse_precompute(media, tmp_path / "out", MuseParams(f"imported:{digest}"), INLINE)


def test_an_export_comes_back_the_same_and_says_what_it_is(media: Path, tmp_path: Path) -> None:
    muse_precompute(media, tmp_path / "out", MuseParams(), INLINE)
    assert export_published(tmp_path / "out", media, tmp_path / "export", "/videos") == 3
    key = sha1("/videos/a.mp4||")
    assert np.load(tmp_path / f"export/{key[:2]}/{key}.npy").shape == (3, 512)
    rows = [json.loads(line) for line in (tmp_path / "export/index.jsonl").read_text().splitlines()]
    assert [(each["video"], each["num_frames"]) for each in rows] == [
        (f"/videos/{n}.mp4", t) for n, t in LENGTHS.items()
    ]
    assert verify_features(media, tmp_path / "export", MuseParams()) == (3, [])
    digest, *_ = import_published(media, tmp_path / "export", MuseParams())
    muse_precompute(media, tmp_path / "back", MuseParams(f"imported:{digest}"), INLINE)
    assert (tmp_path / "back/features.npy").read_bytes() == (tmp_path / "out/features.npy").read_bytes()
    assert json.loads((tmp_path / "back/meta.json").read_text())["checkpoint_sha256"] == "untrained"


def test_features_of_another_checkpoint_are_not_mixed_in(media: Path, cache: Path, tmp_path: Path) -> None:
    muse_precompute(media, tmp_path / "out", MuseParams(), INLINE)
    with pytest.raises(InputError, match=r"holds features of checkpoint unknown .*not of checkpoint untrained"):
        export_published(tmp_path / "out", media, cache)
    export_published(tmp_path / "out", media, tmp_path / "export")
    assert export_published(tmp_path / "out", media, tmp_path / "export") == 3
    frontend = tmp_path / "frontend.pt"
    frontend.write_bytes(b"any")
    p = MuseParams(f"file:{frontend}#sha256={hashlib.sha256(b'any').hexdigest()}")
    for action in (import_published, verify_features):
        with pytest.raises(InputError, match=f"checkpoint untrained .*not of checkpoint {p.checkpoint_digest}"):
            action(media, tmp_path / "export", p)


def test_everything_wrong_with_a_folder_is_listed(media: Path, cache: Path) -> None:
    put(cache, sha1("a.mp4||"), 4)
    (cache / sha1("c.mp4||")[:2] / f"{sha1('c.mp4||')}.npy").unlink()
    total, problems = verify_features(media, cache, MuseParams())
    assert total == 3
    assert list(map(str, problems)) == [
        "a: MuSE feature length mismatch: video_len=3, muse_len=4, video=a.mp4",
        "c: MuSE cache miss",
    ]
    with pytest.raises(InputError, match="MuSE feature length mismatch: 1 of 3 clips, first a"):
        import_published(media, cache, MuseParams())


class Hostile:
    def __reduce__(self) -> tuple:
        return os.mkdir, ("ran",)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.array([Hostile()], dtype=object), "Python objects"),
        (np.zeros((3, 512)), r"float64 \[3, 512\], not float32"),
        (np.zeros((3, 256), np.float32), r"float32 \[3, 256\]"),
        (np.zeros(512, np.float32), r"float32 \[512\]"),
        (b"nothing", "cannot be read"),
        (pickle.dumps(Hostile()), "cannot be read"),
    ],
)
def test_files_that_hold_something_else_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, array: np.ndarray | bytes, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    if isinstance(array, bytes):
        Path("x.npy").write_bytes(array)
    else:
        np.save("x.npy", array)
    with pytest.raises(InputError, match=message):
        read_features(Path("x.npy"))
    assert not Path("ran").exists()


def test_torn_endless_and_outsized_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torn = put(tmp_path, sha1("x"))
    torn.write_bytes(torn.read_bytes()[:-1])
    with pytest.raises(InputError, match="cannot be read"):
        read_features(torn)
    os.mkfifo(tmp_path / "pipe.npy")
    with pytest.raises(InputError, match="not a regular file"):
        read_features(tmp_path / "pipe.npy")
    monkeypatch.setattr("avs.lips.published.MAX_BYTES", 4096)
    with pytest.raises(InputError, match="larger than"):
        read_features(put(tmp_path, sha1("y"), 9))


def test_numbers_that_are_not_finite_are_not_imported(media: Path, cache: Path) -> None:
    path = put(cache, sha1("a.mp4||"))
    np.save(path, np.full((3, 512), np.nan, np.float32))
    with pytest.raises(InputError, match="not finite"):
        import_published(media, cache, MuseParams())


@pytest.mark.parametrize(
    "line",
    [
        70000 * " ",
        60000 * "[",
        "{",
        "[]",
        '{"cache_path": 1}',
        '{"cache_path": "a"}',
        '{"cache_path": "a", "video": 1}',
    ],
)
def test_a_damaged_index_is_named_by_its_line(tmp_path: Path, line: str) -> None:
    (tmp_path / "index.jsonl").write_text(line + "\n")
    with pytest.raises(InputError, match=r"index\.jsonl, line 1"):
        PublishedCache(tmp_path)


def test_an_index_cannot_lead_out_of_the_folder(tmp_path: Path) -> None:
    outside = put(tmp_path, sha1("secret"))
    (tmp_path / "cache").mkdir()
    hostile = row("/x/a.mp4") | {"cache_path": f"../{outside.parent.name}/{outside.name}"}
    index(tmp_path / "cache", hostile)
    assert PublishedCache(tmp_path / "cache").find(clip_of("a", 3, video="a.mp4")) is None


def test_sound_that_does_not_fit_the_pictures_is_named() -> None:
    (problem,) = check_length(clip_of("a", 3), 3, samples=1919)
    assert str(problem) == "a: Audio/MuSE length mismatch: wav=1919, expected=1920"


def test_the_commands_say_what_to_do_next(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(ROOT / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    write_speech(Path("data/media/speech"), LENGTHS | {"d": 2})
    main(["muse-cache", "import", str(cache)])
    said = capsys.readouterr().out
    assert "3 clips imported, 1 missing, first d\n" in said
    digest = said.strip().rpartition("-S muse.checkpoint=imported:")[2]
    assert MuseParams(f"imported:{digest}").imported
    with pytest.raises(SystemExit, match=f"1 problems with 4 clips in {cache}"):
        main(["muse-cache", "verify", str(cache)])
    assert capsys.readouterr().out == "d: MuSE cache miss\n"
    with pytest.raises(SystemExit, match="data/muse: holds no MuSE features"):
        main(["muse-cache", "export", "out"])
    muse_precompute(Path("data/media/speech"), Path("data/muse"), MuseParams(), INLINE)
    main(["muse-cache", "verify"])
    main(["muse-cache", "export", "out"])
    main(["muse-cache", "verify", "out"])
    assert (
        "4 clips in data/muse: each has its features\n4 clips written to out\n4 clips in out" in capsys.readouterr().out
    )


def test_two_faces_of_one_video_are_not_mixed_up(cache: Path, media: Path, tmp_path: Path) -> None:
    faces = [clip_of(key, 3, video="a.mp4") for key in ("left", "right")]
    with pytest.raises(InputError, match=r"left and right are one part of a\.mp4"):
        list(PublishedCache(cache).problems(faces))


def test_long_times_keep_their_digits(tmp_path: Path) -> None:
    put(tmp_path, sha1("a.mp4|12345.7|"))
    assert PublishedCache(tmp_path).find(clip_of("a", 3, start=12345.678)) is None


@pytest.mark.parametrize("action", ["import", "export"])
def test_a_folder_to_read_or_write_is_asked_for(action: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    with pytest.raises(SystemExit, match=f"muse-cache {action} needs a folder: muse-cache {action} DIR"):
        main(["muse-cache", action])
