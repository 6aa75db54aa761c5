"""Kinds of files of the sets of speech, of what stages leave of them, and of models for them."""

from __future__ import annotations

import io
import json
from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from avs.avsr import runs
from avs.avsr.avhubert import AVHubertConfig, AVHubertEncoder
from avs.avsr.avhubert_checkpoints import load_avhubert
from avs.avsr.mixtures import Mixture, Mixtures
from avs.avsr.text import unigram_folder
from avs.core.media import wav
from avs.core.store import write_json, write_json_lines
from avs.lips.cache import MuseFeatures
from avs.lips.media import SpeechClip, SpeechShards, film
from avs.speech.grid import Grid, GridParams
from avs.speech.lrs2 import Lrs2, Lrs2Params
from avs.speech.mcorec import MCoRec, MCoRecParams
from avs.speech.vox2 import Vox2, Vox2Params
from tests.reliability.kind import Kind, Shard, each, put, sound, texts, written

_PICTURES = 10
_CUES = (
    "WEBVTT\n\n1\n00:00:01.000 --> 00:00:02.000\n<v Ann>hello &amp; bye\n\n00:03.500 --> 00:05.200 align:start\nyes\n"
)
_TRACK = {"start_time": 0.4, "end_time": 9.4, "duration": 9}
_SESSION = {
    "spk_0": {
        "central": {
            "uem": {"start": 0.0, "end": 8.0},
            "crops": [{"video": "speakers/t.mp4", "crop_metadata": "speakers/t.json"}],
        }
    }
}
_LRS2 = (
    "Text:  IT'S {TIME} NOW\nConf:  4\n\nWORD START END ASDSCORE\nIT'S 0.2 0.5 1.5\nTIME 0.6 0.9 -0.3\nNOW 1.4 1.9 2\n"
)


def _speech_clip(key: str, shard: str, offset: int) -> SpeechClip:
    base = SpeechClip(key, "grid", "train", f"{key}.mp4", 0, 0, "hello", "s1", "", "")
    return SpeechClip(**vars(base) | {"frames": _PICTURES, "media": "1" * 64, "shard": shard, "offset": offset})


def _lips() -> Shard:
    pictures = np.random.default_rng(0).integers(0, 256, (_PICTURES, 96, 96), dtype=np.uint8)
    return Shard({"lips.mkv": film(pictures), "audio.wav": wav(sound(_PICTURES / 25))}, _speech_clip)


def _use_lips(path: Path, folder: Path) -> None:
    shards = SpeechShards(_lips().beside(path, folder / "speech"))
    looks = (shards.lips, shards.audio, shards.samples)
    each(*(lambda look=look, clip=clip: look(clip) for clip in shards.clips for look in looks))


_MIXED = Shard(
    {"snr_0.wav": wav(sound())},
    lambda key, shard, offset: Mixture(key, "snr_0", "1" * 64, "c", 0, 0.5, 1, shard, offset),
)


def _use_mixed(path: Path, folder: Path) -> None:
    mixtures = Mixtures(_MIXED.beside(path, folder / "mixtures"))
    each(*(lambda row=row: mixtures.load(*row) for row in mixtures.rows))


def _features() -> list[bytes]:
    return [written(".npy", lambda path: np.save(path, np.ones((2 * _PICTURES, 512), np.float32)))]


def _use_features(path: Path, folder: Path) -> None:
    clips = [_speech_clip(key, "", 0) for key in "ab"]
    write_json(folder / "meta.json", {"frames": 2 * _PICTURES})
    rows = [
        {"clip": clip.key, "media": clip.media, "first": n * _PICTURES, "num_frames": _PICTURES}
        for n, clip in enumerate(clips)
    ]
    write_json_lines(folder / "index.jsonl", rows)
    features = MuseFeatures(folder)
    for clip in clips:
        features.load(clip).sum()


def _use_session(path: Path, folder: Path, name: str) -> None:
    session = folder / "sets/train/session_00"
    good = {
        "labels/spk_0.vtt": _CUES,
        "metadata.json": json.dumps(_SESSION),
        "speakers/t.json": json.dumps(_TRACK),
        "speakers/t.mp4": "",
    }
    for below, content in good.items():
        put(session / below, path.read_bytes() if below.endswith(name) else content)
    MCoRec(MCoRecParams(folder=str(folder / "sets"), splits=("train",))).utterances()


def _use_lrs2(path: Path, folder: Path) -> None:
    """As the text of a clip, and as a list of clips."""
    for video in ("main/10/00001.mp4", "pretrain/10/00001.mp4"):
        put(folder / "sets" / video, "")
    put(folder / "sets/pretrain/10/00001.txt", path.read_bytes())
    put(folder / "sets/pretrain.txt", "10/00001\n")
    put(folder / "sets/train.txt", path.read_bytes())
    put(folder / "sets/main/10/00001.txt", _LRS2)

    def read(split: str) -> None:
        Lrs2(Lrs2Params(folder=str(folder / "sets"), splits=(split,))).words()

    each(lambda: read("train"), lambda: read("pretrain"))


def _use_vox2(path: Path, folder: Path) -> None:
    put(folder / "sets/labels.tsv", path.read_bytes())
    put(folder / "sets/dev/mp4/id00012/x/00001.mp4", b"")
    put(folder / "sets/texts/dev/mp4/id00012/x/00001.txt", path.read_bytes())
    each(*(lambda p=p: Vox2(p).utterances() for p in _vox2_params(folder / "sets")))


def _vox2_params(folder: Path) -> list[Vox2Params]:
    return [Vox2Params(folder=str(folder), labels=labels) for labels in ("labels.tsv", "texts")]


def _use_alignment(path: Path, folder: Path) -> None:
    put(folder / "sets/s1/bbaf2n.mpg", b"")
    put(folder / "sets/align/s1/bbaf2n.align", path.read_bytes())
    Grid(GridParams(folder=str(folder / "sets"))).words()


_PIECES = ["<unk>", "\u2581A", "B", "\u2581"]


def _unigram() -> bytes:
    from sentencepiece import SentencePieceTrainer

    model, options = io.BytesIO(), {"vocab_size": 12, "hard_vocab_limit": False, "minloglevel": 2}
    SentencePieceTrainer.train(sentence_iterator=iter(["A B AB", "B A BA"]), model_writer=model, **options)
    return model.getvalue()


def _use_unigram(path: Path, folder: Path, name: str) -> None:
    good = {"units.txt": "".join(f"{piece} {n}\n" for n, piece in enumerate(_PIECES, 1)), "x.model": _unigram()}
    for file, content in good.items():
        put(folder / "port" / file, path.read_bytes() if file == name else content)
    tokenizer = unigram_folder(folder / "port")
    tokenizer.decode(tokenizer.encode("AB A"))


def _fairseq() -> list[bytes]:
    model = AVHubertEncoder(AVHubertConfig(width=64, layers=1, heads=4, inner=64, front_end="small")).state_dict()
    settings: dict[str, Any] = {"encoder_attention_heads": 4, "layer_norm_first": True, "modality_fuse": "concat"}
    files = []
    for whole in ({"cfg": {"model": settings}, "args": None}, {"cfg": None, "args": Namespace(**settings)}):
        out = io.BytesIO()
        torch.save(whole | {"model": model}, out, _use_new_zipfile_serialization=whole["args"] is None)
        files.append(out.getvalue())
    return files


def _state() -> list[bytes]:
    out = io.BytesIO()
    torch.save({"step": 3, "model": {"a": torch.ones(5)}, "random": torch.get_rng_state()}, out)
    return [out.getvalue()]


KINDS_OF_SPEECH = (
    Kind("speech.tar", lambda: _lips().good(), _use_lips),
    Kind("mixture.tar", _MIXED.good, _use_mixed),
    Kind("features.npy", _features, _use_features),
    Kind("cues.vtt", texts(_CUES), lambda path, folder: _use_session(path, folder, ".vtt"), text=True),
    Kind("session.json", texts(json.dumps(_SESSION)), lambda p, f: _use_session(p, f, "metadata.json"), text=True),
    Kind("track.json", texts(json.dumps(_TRACK)), lambda p, f: _use_session(p, f, "t.json"), text=True),
    Kind("lrs2.txt", texts(_LRS2, "10/00001\n20/00002 NF\n"), _use_lrs2, text=True),
    Kind("labels.tsv", texts("video\ttranscript\ndev/mp4/id00012/x/00001.mp4\tsaid so\n"), _use_vox2, text=True),
    Kind("words.align", texts("0 15250 sil\n15250 21000 bin\n21000 25750 blue\n"), _use_alignment, text=True),
    Kind("units.txt", texts("<unk> 1\n\u2581A 2\nB 3\n"), lambda p, f: _use_unigram(p, f, "units.txt"), text=True),
    Kind("x.model", lambda: [_unigram()], lambda p, f: _use_unigram(p, f, "x.model")),
    Kind("avhubert.pt", _fairseq, lambda path, folder: load_avhubert(path)),
    Kind("state.pt", _state, lambda path, folder: runs.load(path)),
)
