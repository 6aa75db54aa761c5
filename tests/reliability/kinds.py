"""The kinds of files that come from elsewhere: good ones to begin with, and how the kit uses one."""

from __future__ import annotations

import hashlib
import io
import json
import os
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from safetensors.numpy import save as as_safetensors

from avs.audio.silero import SileroNetwork
from avs.config import load_config
from avs.core import archive, tars
from avs.core.checkpoint import read_description, read_tensors
from avs.core.clips import Failed, read_table, write_table
from avs.core.footage import read_footage
from avs.core.media import cut_media, jpeg, read_media, read_sound, wav, write_media
from avs.core.probe import probe
from avs.core.shards import packed
from avs.core.store import ItemStore, read_array
from avs.datasets.annotations import Annotation, read_annotations
from avs.datasets.epic_sounds import read_sounds
from avs.datasets.youtube import located
from avs.lips.crops import read_landmarks, read_mean_face
from avs.lips.published import PublishedCache, read_features
from avs.preprocess import MediaClip, MediaShards
from avs.speech.table import read_utterances, read_words
from avs.speech.webdataset import read_shards, shards
from tests.reliability.kind import REFUSALS, SECONDS, Kind, Shard, each, put, sound, texts, written
from tests.reliability.kinds_of_speech import KINDS_OF_SPEECH

ROOT = Path(__file__).resolve().parents[2]


def _frames(count: int, seed: int = 0) -> list[np.ndarray]:
    coarse = np.random.default_rng(seed).integers(0, 256, (count, 6, 8, 3), dtype=np.uint8)
    return [np.kron(frame, np.ones((8, 8, 1), np.uint8)) for frame in coarse]


def _videos() -> list[bytes]:
    def write(suffix: str, fps: int, audio: np.ndarray | None) -> bytes:
        frames = _frames(fps * SECONDS, fps)
        return written(suffix, lambda path: write_media(path, frames, fps=fps, audio=audio))

    heard = sound()
    return [write(".mp4", 25, heard), write(".mp4", 5, None), write(".mkv", 10, heard), write(".avi", 5, heard)]


def _use_video(path: Path, folder: Path) -> None:
    each(
        lambda: read_media(path, SECONDS),
        lambda: read_media(path, SECONDS, start=3),
        lambda: probe(path, SECONDS),
        lambda: read_footage(path, lambda number, picture: None, longest=10),
        lambda: cut_media(path, folder / "cut.mkv", 0.5, 1.5),
    )


def _clip(key: str, shard: str = "", offset: int = 0) -> MediaClip:
    return MediaClip(key, "train", "dog", 0, 1, SECONDS, "clip.mp4", "0" * 64, "1" * 64, shard=shard, offset=offset)


def _media() -> Shard:
    pictures = {f"frames/{t}.jpg": jpeg(frame) for t, frame in enumerate(_frames(SECONDS))}
    return Shard({"audio.wav": wav(sound())} | pictures, _clip)


def _use_shard(path: Path, folder: Path) -> None:
    _media().beside(path, folder / "media")
    write_table(folder / "media/failures.tsv", [], Failed)
    found = MediaShards(folder / "media")
    each(*(lambda look=look, clip=clip: look(clip) for clip in found.clips for look in (found.frames, found.waveform)))


def _index() -> list[bytes]:
    return [written(".tsv", lambda path: write_table(path, [_clip(key) for key in "abc"], MediaClip))]


def _use_index(path: Path, folder: Path) -> None:
    for clip in read_table(path, MediaClip):
        clip.event()


_SPEECH = """clip\tdataset_name\tsplit\tspeaker\tvideo\tstart\tend\ttranscript
a\tlrs2\ttrain\ts1\ta.mp4\t0\t1.5\thello there
b\tmcorec\ttest\ts2\tsub/b.mp4\t2\t4\tgood morning to you
"""
_WORDS = "clip\tword\tstart\tend\na\thello\t0\t0.5\na\tthere\t0.6\t1.2\nb\tgood\t0\t0.4\n"
_LOCAL = "video\tlabel\tstart\tend\tsplit\na.mp4\tdog\t0\t3\ttrain\nb.mp4\tcat\t1\t2\ttest\nc.mp4\tdog\t4\t9\tval\n"
_AVE = "Category&VideoID&Quality&StartTime&EndTime\nChurch bell&RUhOCu3LNXM&good&0&10\nBark&AhBc_D1&good&2&7\n"


def _use_tsv(path: Path, folder: Path) -> None:
    each(
        lambda: read_annotations(path, 10),
        lambda: read_annotations(path, 10, check=False),
        lambda: read_utterances(path, folder),
        lambda: read_words(path, ["a", "b"]),
    )


def _arrays() -> list[bytes]:
    shapes = {"features": (5, 512), "points": (9, 68, 2), "face": (68, 2)}
    draw = np.random.default_rng(0)
    return [written(".npy", lambda p, s=s: np.save(p, draw.standard_normal(s).astype("f4"))) for s in shapes.values()]


def _use_array(path: Path, folder: Path) -> None:
    readers = (read_features, read_landmarks, read_mean_face, read_array)
    each(*(lambda read=read: np.asarray(read(path)).sum() for read in readers))


_ROW = '{"cache_path": "ab/ab.npy", "dataset": "grid", "video": "a.mp4", "start_time": 0, "end_time": 1.5}\n' * 2


def _use_cache_index(path: Path, folder: Path) -> None:
    """As the index of a cache, and as what describes one."""
    put(folder / "index/index.jsonl", path.read_bytes())
    put(folder / "meta/meta.json", path.read_bytes())
    each(lambda: PublishedCache(folder / "index"), lambda: PublishedCache(folder / "meta"))


def _safetensors() -> list[bytes]:
    tensors = {"layer.weight": np.ones((3, 4), "f4"), "layer.bias": np.arange(3, dtype="f8")}
    return [as_safetensors(tensors, {"config": json.dumps({"kind": "x"})})]


def _use_safetensors(path: Path, folder: Path) -> None:
    each(lambda: read_description(path), lambda: read_tensors(path))


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
    with suppress(*REFUSALS):
        archive.contents_key(path)
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

    put(folder / "sets/lrs2-train-0.tar", path.read_bytes())
    found = shards(folder / "sets", ["lrs2"])
    each(walk, lambda: read_shards(folder / "sets", found, ["train"], {}, None))


def _use_params(path: Path, folder: Path) -> None:
    load_config(path)


def _orders() -> list[bytes]:
    def write(path: Path, rows: list[int], **how: Any) -> None:
        with h5py.File(path, "w") as file:
            file.create_dataset("order", data=rows, **how)

    return [
        written(".h5", partial(write, rows=[1, 0])),
        written(".h5", partial(write, rows=list(range(2)), chunks=(2,), compression="gzip")),
    ]


def _use_order(path: Path, folder: Path) -> None:
    put(folder / "ave/train_order.h5", path.read_bytes())
    read_annotations(put(folder / "ave/Annotations.txt", _AVE), 10)


_SOUNDS = "annotation_id,video_id,start_timestamp,stop_timestamp,class\nx,P01_01,00:00:01.5,00:00:03.0,cut\n"
_SEGMENTS = '# YTID, start_seconds, end_seconds, labels\nRUhOCu3LNXM, 30.000, 40.000, "/m/0,/m/1"\n'


def _use_csv(path: Path, folder: Path) -> None:
    put(folder / "epic/EPIC_Sounds_train.csv", path.read_bytes())
    rows = [Annotation("RUhOCu3LNXM.mp4", "bell", 0, 10, 10)]
    each(lambda: read_sounds(folder / "epic"), lambda: located(rows, [path]))


def _scripts() -> list[bytes]:
    out = io.BytesIO()
    torch.jit.save(torch.jit.script(torch.nn.Linear(3, 2)), out)
    return [out.getvalue()]


def _use_script(path: Path, folder: Path) -> None:
    each(lambda: read_tensors(path), lambda: SileroNetwork(path))


def _item() -> list[bytes]:
    content = written(".npy", lambda path: np.save(path, np.ones(20, np.float32)))
    return [hashlib.sha256(content).digest() + content]


def _use_item(path: Path, folder: Path) -> None:
    os.environ["AVS_STORE"] = str(folder / "store")  # of this process alone
    put(ItemStore("kind").path("00ab"), path.read_bytes())
    ItemStore("kind").load_array("00ab")


KINDS = {
    kind.name: kind
    for kind in (
        Kind("clip.mp4", _videos, _use_video),
        Kind("sound.wav", lambda: [wav(sound())], lambda path, folder: read_sound(path)),
        Kind("shard.tar", lambda: _media().good(), _use_shard),
        Kind("index.tsv", _index, _use_index, text=True),
        Kind("rows.tsv", texts(_SPEECH, _WORDS, _LOCAL), _use_tsv, text=True),
        Kind("Annotations.txt", texts(_AVE), lambda path, folder: read_annotations(path, 10), text=True),
        Kind("params.yaml", lambda: [(ROOT / "params.yaml").read_bytes()], _use_params, text=True),
        Kind("array.npy", _arrays, _use_array),
        Kind(
            "index.jsonl",
            texts(_ROW, '{"checkpoint_sha256": "0", "trained": true}'),
            _use_cache_index,
            text=True,
        ),
        Kind("model.safetensors", _safetensors, _use_safetensors),
        Kind("model.pt", _pickles, _use_pickle),
        Kind("set.zip", _zips, _use_zip),
        Kind("samples.tar", _tars, _use_tar),
        Kind("order.h5", _orders, _use_order),
        Kind("rows.csv", texts(_SOUNDS, _SEGMENTS), _use_csv, text=True),
        Kind("script.pt", _scripts, _use_script),
        Kind("item", _item, _use_item),
        *KINDS_OF_SPEECH,
    )
}
