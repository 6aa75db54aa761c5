"""YAMNet: its checkpoint reader, its arithmetic with made-up weights, and the published weights on real sound."""

from __future__ import annotations

import csv
import io
import math
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from golden_fill import fill_array, noise, wave

from avs.audio import yamnet
from avs.audio.audioset import NOT_EVENTS
from avs.audio.eventness import eventness, make_backend
from avs.audio.tf_checkpoint import read_tensors
from avs.audio.yamnet import YamNet, mel_weights
from avs.core.errors import InputError
from avs.core.media import read_media
from avs.core.weights import fetch

PAIRS = Path(__file__).resolve().parents[2] / "shared" / "pairs"


def varint(value: int) -> bytes:
    low, rest = value & 0x7F, value >> 7
    return bytes([low | 0x80]) + varint(rest) if rest else bytes([low])


def block(entries: list[tuple[bytes, bytes]]) -> bytes:
    """A table block whose keys share their prefixes, with its trailer (no compression, no checksum)."""
    body, last = b"", b""
    for key, value in entries:
        shared = next((i for i, (a, b) in enumerate(zip(last, key, strict=False)) if a != b), len(last))
        body += varint(shared) + varint(len(key) - shared) + varint(len(value)) + key[shared:] + value
        last = key
    return body + struct.pack("<II", 0, 1) + bytes(5)


def checkpoint(tensors: dict[str, np.ndarray]) -> tuple[bytes, bytes]:
    """The index and data files of a checkpoint."""
    data, entries = b"", [(b"", b"\x08\x01")]
    for name, tensor in sorted(tensors.items()):
        sizes = [b"\x08" + varint(size) for size in tensor.shape]
        shape = b"".join(b"\x12" + varint(len(size)) + size for size in sizes)
        place = b"\x20" + varint(len(data)) + b"\x28" + varint(tensor.nbytes) + b"\x35\0\0\0\0"
        entries.append((name.encode(), b"\x08\x01\x12" + varint(len(shape)) + shape + place))
        data += tensor.astype("<f4").tobytes()
    first = block(entries)
    handle = varint(0) + varint(len(first) - 5)
    index = block([(b"\xff", handle)])
    footer = varint(0) + varint(0) + varint(len(first)) + varint(len(index) - 5)
    return first + index + footer.ljust(40, b"\0") + struct.pack("<Q", 0xDB4775248B80FB57), data


@pytest.fixture(scope="module")
def made_up(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive like the published one, with weights by formula and classes named by number."""
    tensors, width = {}, 1
    widths = (32, 64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024)
    for i, wider in enumerate(widths):
        shapes = {"kernel": (3, 3, 1, wider)} if i == 0 else {"depthwise_kernel": (3, 3, width, 1)}
        tensors |= _layer(max(0, 4 * i - 2), shapes, wider if i == 0 else width)
        if i:
            tensors |= _layer(4 * i, {"kernel": (1, 1, width, wider)}, wider)
        width = wider
    dense = {"kernel": fill_array("kernel", (521, 1024)).T, "bias": fill_array("bias", (521,))}
    tensors |= {f"net/layer_with_weights-54/{role}/v": value for role, value in dense.items()}
    index, data = checkpoint(tensors)
    names = "index,mid,display_name\n" + "".join(f"{i},/m/{i},class {i}\n" for i in range(521))
    path = tmp_path_factory.mktemp("yamnet") / "archive.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{yamnet._FOLDER}variables/variables.index", index)
        archive.writestr(f"{yamnet._FOLDER}variables/variables.data-00000-of-00001", data)
        archive.writestr(f"{yamnet._FOLDER}assets/yamnet_class_map.csv", names)
    return path


def _layer(number: int, kernels: dict[str, tuple[int, ...]], width: int) -> dict[str, np.ndarray]:
    prefix = f"net/layer_with_weights-{number}"
    tensors = {}
    for role, shape in kernels.items():
        inputs = 9 if role == "depthwise_kernel" else math.prod(shape[:3])
        kernel = noise(prefix, math.prod(shape)).reshape(shape) * math.sqrt(6 / inputs)
        tensors[f"{prefix}/{role}/v"] = kernel.astype(np.float32)
    norm = f"net/layer_with_weights-{number + 1}"
    for role, rule in (("beta", "beta"), ("moving_mean", "running_mean"), ("moving_variance", "running_var")):
        tensors[f"{norm}/{role}/v"] = fill_array(f"{norm}.{rule}", (width,))
    return tensors


def test_reads_a_checkpoint() -> None:
    tensors = {"a/kernel": wave("k", (3, 200)), "a/kernel_scale": wave("s", (5,)), "b": np.float32(2.5).reshape(())}
    found = read_tensors(*checkpoint(tensors))
    assert found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(found[name], tensor)


def test_refuses_damaged_checkpoints() -> None:
    index, data = checkpoint({"a/kernel": wave("k", (3, 200))})
    with pytest.raises(InputError, match=r"a/kernel \(3, 200\) wants bytes 0 to 2400 of a data file of 2399"):
        read_tensors(index, data[:-1])
    with pytest.raises(InputError, match="wrong magic number"):
        read_tensors(index[:-1], data)
    for at in range(len(index) - 8):
        damaged = index[:at] + bytes([index[at] ^ 0xFF]) + index[at + 1 :]
        try:
            read_tensors(damaged, data)
        except InputError:
            continue


def test_mel_weights_are_triangles_in_mel() -> None:
    weights = mel_weights()
    assert weights.shape == (257, 64)
    assert weights.min() == 0
    assert weights.max() <= 1
    hertz = np.arange(257) * 31.25
    assert not weights[(hertz <= 125) | (hertz >= 7500)].any()
    edges = 700 * np.expm1(np.linspace(np.log1p(125 / 700), np.log1p(7500 / 700), 66))
    inner = (hertz > edges[1]) & (hertz < edges[-2])
    np.testing.assert_allclose(weights[inner].sum(1), 1, atol=1e-6)
    peaks = hertz[weights[:, 20:].argmax(0)]
    assert (np.abs(peaks - edges[21:-1]) <= 31.25).all()


def test_log_mel_of_silence_and_of_a_tone(made_up: Path) -> None:
    model = YamNet(made_up)
    tone = np.sin(2 * np.pi * 1000 * np.arange(16000) / 16000)
    log_mel = model._log_mel(torch.from_numpy(np.stack([np.zeros(16000), tone]).astype(np.float32))).numpy()
    assert log_mel.shape == (2, 96, 64)
    np.testing.assert_allclose(log_mel[0], np.log(0.001), atol=1e-6)
    edges = 700 * np.expm1(np.linspace(np.log1p(125 / 700), np.log1p(7500 / 700), 66))
    assert (log_mel[1].argmax(1) == np.abs(edges[1:-1] - 1000).argmin()).all()


def test_same_padding_is_tensorflows() -> None:
    """For an even length and a stride of 2, nothing is padded in front: the first tap sees the first value."""
    x = torch.arange(1.0, 17.0).reshape(1, 1, 4, 4)
    first_tap = torch.zeros(1, 1, 3, 3)
    first_tap[..., 0, 0] = 1
    out = yamnet._convolve(x, (first_tap, torch.zeros(1)), stride=2)
    np.testing.assert_array_equal(out[0, 0], [[1, 3], [9, 11]])
    assert yamnet._convolve(x, (first_tap, torch.zeros(1)), stride=1)[0, 0, 1, 1] == 1


def test_folded_batch_norm_is_batch_norm() -> None:
    kernel, x = wave("kernel", (3, 3, 4, 6)), torch.from_numpy(wave("x", (2, 4, 9, 9)))
    norm = {role: fill_array(f"n.{rule}", (6,)) for role, rule in (("beta", "beta"), ("moving_mean", "running_mean"))}
    norm["moving_variance"] = fill_array("n.running_var", (6,))
    weight, bias = yamnet._fold({"kernel": kernel}, norm)
    folded = torch.nn.functional.conv2d(x, weight, bias)
    plain = torch.nn.functional.conv2d(x, torch.tensor(kernel.transpose(3, 2, 0, 1)))
    mean, variance, beta = (torch.tensor(norm[role]) for role in ("moving_mean", "moving_variance", "beta"))
    expected = torch.nn.functional.batch_norm(plain, mean, variance, None, beta, eps=1e-4)
    torch.testing.assert_close(folded, expected, rtol=0, atol=1e-5)


def test_scores_with_made_up_weights(made_up: Path) -> None:
    clips = np.stack([wave(f"clip{i}", (48000,), scale=0.5) for i in range(3)])
    scores = eventness("yamnet", clips, num_seconds=3, weights=f"file:{made_up}")
    assert scores.shape == (3, 3)
    assert ((scores > 0) & (scores < 1)).all()
    assert scores.std() > 1e-4
    alone = [eventness("yamnet", clip[None], num_seconds=3, weights=f"file:{made_up}") for clip in clips]
    np.testing.assert_array_equal(scores, np.concatenate(alone))


def test_digest_needs_no_weights() -> None:
    assert make_backend("yamnet").weights_digest == yamnet.WEIGHTS.rpartition("=")[2]


def test_refuses_another_archive(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("readme", "nothing")
    with pytest.raises(InputError, match=r"other.zip: not the YAMNet package: .*variables.index"):
        YamNet(tmp_path / "other.zip")
    (tmp_path / "net.zip").write_bytes(b"not a zip")
    with pytest.raises(InputError, match=r"net.zip: not a zip archive"):
        YamNet(tmp_path / "net.zip")


@pytest.fixture(scope="module")
def published() -> YamNet:
    return YamNet(fetch(yamnet.WEIGHTS))


@pytest.mark.weights
def test_published_classes(published: YamNet) -> None:
    assert len(published.class_names) == 521
    assert set(published.class_names) >= set(NOT_EVENTS)
    assert published.class_names[0] == "Speech"


@pytest.mark.weights
def test_published_weights_on_made_sounds(published: YamNet) -> None:
    """Silence, noise and a tone are what everybody hears in them."""
    time = np.arange(16000) / 16000
    noise = 0.3 * np.random.default_rng(0).standard_normal(16000)
    sounds = np.stack([np.zeros(16000), noise, 0.3 * np.sin(2 * np.pi * 440 * time)]).astype(np.float32)
    scores = published.scores(sounds)
    tops = [{published.class_names[i] for i in row.argsort()[-4:]} for row in scores]
    assert "Silence" in tops[0]
    assert tops[1] & {"White noise", "Pink noise", "Static", "Noise"}
    assert tops[2] & {"Sine wave", "Dial tone", "Tuning fork", "Beep, bleep"}


@pytest.mark.weights
@pytest.mark.skipif(not PAIRS.is_dir(), reason="the composed pairs are not on this machine")
@pytest.mark.parametrize(
    ("category", "heard"),
    [("Dog", "Dog"), ("Cat", "Cat"), ("Toilet flush", "Toilet flush"), ("Crow", "Crow")],
)
def test_published_weights_on_real_sounds(category: str, heard: str, published: YamNet) -> None:
    rows = csv.DictReader(io.StringIO((PAIRS / "Annotations.txt").read_text()), delimiter="&")
    clips = [row for row in rows if row["Category"] == category][:4]
    found = []
    for clip in clips:
        sound = read_media(PAIRS / "videos" / f"{clip['VideoID']}.mp4", 10).audio.astype(np.float32) / 32768
        scores = published.scores(sound.reshape(10, 16000))[int(clip["StartTime"]) : int(clip["EndTime"])].mean(0)
        found.append(heard in {published.class_names[i] for i in scores.argsort()[-5:]})
    assert sum(found) >= 3
