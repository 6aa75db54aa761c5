"""The kinds of files that come from elsewhere: good ones to begin with, and how the kit uses one."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import save as as_safetensors

from avs.config import load_config
from avs.core import archive, tars
from avs.core.checkpoint import read_description, read_tensors
from avs.core.clips import Clip, Failed, read_table, write_table
from avs.core.errors import InputError
from avs.core.footage import read_footage
from avs.core.media import MediaError, jpeg, read_media, read_sound, wav, write_media
from avs.core.probe import probe
from avs.core.shards import add_member, packed, write_shards
from avs.datasets.annotations import read_annotations
from avs.lips.crops import read_landmarks, read_mean_face
from avs.lips.published import PublishedCache, read_features
from avs.preprocess import MediaClip, MediaShards
from avs.speech.table import read_utterances, read_words
from avs.speech.webdataset import read_shards, shards

REFUSALS = (InputError, MediaError)  # what a user reads in one line
ROOT = Path(__file__).resolve().parents[2]
SECONDS = 2
Use = Callable[[Path, Path], Any]


@dataclass(frozen=True)
class Kind:
    """`good()` gives whole files; `use(path, folder)` reads one as the kit does, writing below `folder` only."""

    name: str
    good: Callable[[], list[bytes]]
    use: Use
    text: bool = False


def _written(suffix: str, write: Callable[[Path], object]) -> bytes:
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as folder:
        path = Path(folder) / f"file{suffix}"
        write(path)
        return path.read_bytes()


def _frames(count: int, seed: int = 0) -> list[np.ndarray]:
    coarse = np.random.default_rng(seed).integers(0, 256, (count, 6, 8, 3), dtype=np.uint8)
    return [np.kron(frame, np.ones((8, 8, 1), np.uint8)) for frame in coarse]


def _sound(seconds: int = SECONDS) -> np.ndarray:
    return (8000 * np.sin(np.arange(seconds * 16000) / 9)).astype(np.int16)


def _videos() -> list[bytes]:
    def write(suffix: str, fps: int, sound: bool) -> bytes:
        frames = _frames(fps * SECONDS, fps)
        return _written(suffix, lambda path: write_media(path, frames, fps=fps, audio=_sound() if sound else None))

    return [write(".mp4", 25, True), write(".mp4", 5, False), write(".mkv", 10, True), write(".avi", 5, True)]


def _use_video(path: Path, folder: Path) -> None:
    for look in (
        lambda: read_media(path, SECONDS),
        lambda: read_media(path, SECONDS, start=3),
        lambda: probe(path, SECONDS),
        lambda: read_footage(path, lambda number, picture: None, longest=10),
    ):
        _refused_or(look)


def _refused_or(look: Callable[[], object]) -> None:
    """All that reads a file has its turn, also where another refuses it."""
    with suppress(*REFUSALS):
        look()


def _clip(number: int) -> Clip:
    return Clip(f"{number}-clip", "train", "dog", 0, 1, SECONDS, "clip.mp4", "0" * 64, media="1" * 64)


def _write_shards(folder: Path) -> None:
    contents = {"audio.wav": wav(_sound())} | {f"frames/{t}.jpg": jpeg(f) for t, f in enumerate(_frames(SECONDS))}

    def append(tar: Any, shard: str, clip: Clip) -> MediaClip:
        offset = tar.offset
        for name, content in contents.items():
            add_member(tar, f"{clip.key}/{name}", content)
        return MediaClip(**vars(clip), shard=shard, offset=offset)

    write_table(folder / "index.tsv", write_shards([_clip(0), _clip(1)], folder, append), MediaClip)
    write_table(folder / "failures.tsv", [], Failed)


def _shard_bytes() -> bytes:
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as place:
        _write_shards(Path(place))
        return (Path(place) / "shard-00000.tar").read_bytes()


def _use_shard(path: Path, folder: Path) -> None:
    media = folder / "media"
    _write_shards(media)
    (media / "shard-00000.tar").write_bytes(path.read_bytes())
    found = MediaShards(media)
    for clip in found.clips:
        found.frames(clip)
        found.waveform(clip)


def _index() -> list[bytes]:
    return [_written(".tsv", lambda path: write_table(path, [_clip(n) for n in range(3)], Clip))]


def _use_index(path: Path, folder: Path) -> None:
    for clip in read_table(path, Clip):
        clip.event()


_SPEECH = """clip\tdataset_name\tsplit\tspeaker\tvideo\tstart\tend\ttranscript
a\tlrs2\ttrain\ts1\ta.mp4\t0\t1.5\thello there
b\tmcorec\ttest\ts2\tsub/b.mp4\t2\t4\tgood morning to you
"""
_WORDS = "clip\tword\tstart\tend\na\thello\t0\t0.5\na\tthere\t0.6\t1.2\nb\tgood\t0\t0.4\n"
_LOCAL = "video\tlabel\tstart\tend\tsplit\na.mp4\tdog\t0\t3\ttrain\nb.mp4\tcat\t1\t2\ttest\nc.mp4\tdog\t4\t9\tval\n"
_AVE = "Category&VideoID&Quality&StartTime&EndTime\nChurch bell&RUhOCu3LNXM&good&0&10\nBark&AhBc_D1&good&2&7\n"


def _use_tsv(path: Path, folder: Path) -> None:
    _refused_or(lambda: read_annotations(path, 10))
    _refused_or(lambda: read_annotations(path, 10, check=False))
    _refused_or(lambda: read_utterances(path, folder))
    read_words(path, ["a", "b"])


def _arrays() -> list[bytes]:
    shapes = {"features": (5, 512), "points": (9, 68, 2), "face": (68, 2)}
    draw = np.random.default_rng(0)
    return [_written(".npy", lambda p, s=s: np.save(p, draw.standard_normal(s).astype("f4"))) for s in shapes.values()]


def _use_array(path: Path, folder: Path) -> None:
    for read in (read_features, read_landmarks, read_mean_face):
        _refused_or(lambda read=read: np.asarray(read(path)).sum())


def _use_cache_index(path: Path, folder: Path) -> None:
    (folder / "cache").mkdir()
    (folder / "cache/index.jsonl").write_bytes(path.read_bytes())
    (folder / "cache/meta.json").write_bytes(path.read_bytes()[:400])
    len(PublishedCache(folder / "cache"))


def _safetensors() -> list[bytes]:
    tensors = {"layer.weight": np.ones((3, 4), "f4"), "layer.bias": np.arange(3, dtype="f8")}
    return [as_safetensors(tensors, {"config": json.dumps({"kind": "x"})})]


def _use_safetensors(path: Path, folder: Path) -> None:
    _refused_or(lambda: read_description(path))
    read_tensors(path)


def _pickles() -> list[bytes]:
    state = {"model": {"a.weight": torch.ones(3, 4), "b": torch.arange(5)}, "args": {"lr": 0.1}, "epoch": 3}
    zipped, old = io.BytesIO(), io.BytesIO()
    torch.save(state, zipped)
    torch.save(state["model"], old, _use_new_zipfile_serialization=False)
    return [zipped.getvalue(), old.getvalue()]


def _use_pickle(path: Path, folder: Path) -> None:
    read_tensors(path)


def _zips() -> list[bytes]:
    files = {"AVE/Annotations.txt": _AVE.encode(), "AVE/a.mp4": b"\0" * 5000, "b/c/d.txt": b"text" * 100}
    found = []
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", method) as zipped:
            for name, content in files.items():
                zipped.writestr(name, content)
        found.append(out.getvalue())
    for name in ("../outside", "/outside", "a/../../outside", "C:\\outside"):
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w") as zipped:
            zipped.writestr(name, b"x")
        found.append(out.getvalue())
    return found


def _use_zip(path: Path, folder: Path) -> None:
    archive.unpack(path, folder / "unpacked")


def _tars() -> list[bytes]:
    samples = {f"{n:03d}.{kind}": value for n in range(2) for kind, value in _SAMPLE.items()}
    return [packed(samples), packed({f"{'long/' * 30}{name}": value for name, value in samples.items()})]


_SAMPLE: Mapping[str, bytes] = {
    "video": b"\0" * 1000,
    "label": b"hello there",
    "sample_id": b"lrs2_speaker_1",
    "length": b"40",
}


def _use_tar(path: Path, folder: Path) -> None:
    def walk() -> None:
        for part in tars.contents(path).values():
            part.read(1 << 20)

    _refused_or(walk)
    (folder / "sets").mkdir()
    path.rename(folder / "sets/lrs2-train-0.tar")
    found = shards(folder / "sets", ["lrs2"])
    read_shards(folder / "sets", found, ["train"], {}, None)


def _use_params(path: Path, folder: Path) -> None:
    load_config(path)


def _text(*texts: str) -> Callable[[], list[bytes]]:
    return lambda: [text.encode() for text in texts]


KINDS = {
    kind.name: kind
    for kind in (
        Kind("clip.mp4", _videos, _use_video),
        Kind("sound.wav", lambda: [wav(_sound())], lambda path, folder: read_sound(path)),
        Kind("shard.tar", lambda: [_shard_bytes()], _use_shard),
        Kind("index.tsv", _index, _use_index, text=True),
        Kind("rows.tsv", _text(_SPEECH, _WORDS, _LOCAL), _use_tsv, text=True),
        Kind("Annotations.txt", _text(_AVE), lambda path, folder: read_annotations(path, 10), text=True),
        Kind("params.yaml", lambda: [(ROOT / "params.yaml").read_bytes()], _use_params, text=True),
        Kind("array.npy", _arrays, _use_array),
        Kind(
            "index.jsonl",
            _text('{"key": "ab", "video": "a.mp4", "start": 0, "end": 1.5}\n{"key": "cd", "video": "b.mp4"}\n'),
            _use_cache_index,
            text=True,
        ),
        Kind("model.safetensors", _safetensors, _use_safetensors),
        Kind("model.pt", _pickles, _use_pickle),
        Kind("set.zip", _zips, _use_zip),
        Kind("samples.tar", _tars, _use_tar),
    )
}
