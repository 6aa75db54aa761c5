"""What AudioSet's classifiers share: which sound they hear, on which classes they are read, what they refuse."""

from pathlib import Path

import numpy as np
import pytest
import torch
from golden_fill import wave
from torch import Tensor, nn

from avs.audio.audioset import NOT_EVENTS, NUM_CLASSES, Tagger, surroundings
from avs.audio.backend import Backend
from avs.audio.eventness import make_backend
from avs.core.errors import InputError
from avs.core.execute import ExecutionParams


class Loudness(nn.Module):
    """Says of class 0 the mean of the sound, of all NOT_EVENTS certainty, of others nothing."""

    def forward(self, sounds: Tensor) -> Tensor:
        logits = torch.full((len(sounds), NUM_CLASSES), -20.0)
        logits[:, list(NOT_EVENTS.values())] = 20.0
        logits[:, 0] = sounds.mean(1)
        return logits


class Listener(Tagger):
    version = 1

    def _build(self) -> nn.Module:
        return Loudness()


def test_surroundings_are_real_sound_around_each_second() -> None:
    sound = np.arange(40)  # four seconds of ten samples
    np.testing.assert_array_equal(surroundings(sound, 10, 1.0), sound.reshape(4, 10))
    wide = np.stack(surroundings(sound, 10, 2.0))
    assert wide[:, 0].tolist() == [0, 5, 15, 20]
    assert wide.shape == (4, 20)
    assert [heard[0] for heard in surroundings(sound, 10, 3.9)] == [0, 0, 1, 1]
    np.testing.assert_array_equal(surroundings(sound[:10], 10, 9.0), [sound[:10]])


def test_scores_are_probabilities_of_events_only() -> None:
    clip = np.repeat([0.5, -0.5, 0.25], 16000)[None].astype(np.float32)
    backend = Listener(weights="random", window=1.0)
    scores = backend(clip, num_seconds=3)
    np.testing.assert_allclose(scores, [1 / (1 + np.exp([-0.5, 0.5, -0.25]))], rtol=0, atol=1e-6)


def test_long_clips_are_heard_piece_by_piece() -> None:
    clip = wave("long", (1, 25 * 16000))
    listener = Listener(weights="random", window=1.0)
    expected = 1 / (1 + np.exp(-clip.reshape(25, 16000).mean(1)))
    np.testing.assert_allclose(listener(clip, num_seconds=25)[0], expected, rtol=0, atol=1e-6)


def test_the_higher_rate_hears_the_same_sound() -> None:
    class Fast(Listener):
        rate = 32000

    clip = wave("clip", (1, 48000))
    slow, fast = (cls(weights="random")(clip, num_seconds=3) for cls in (Listener, Fast))
    np.testing.assert_allclose(slow, fast, rtol=0, atol=1e-4)


def test_a_window_as_long_as_the_clip_is_refused() -> None:
    with pytest.raises(InputError, match=r"eventness.window \(3\) must be shorter than the clips \(3 s\)"):
        Listener(weights="random", window=3.0)(wave("clip", (1, 48000)), num_seconds=3)


def test_identity_is_all_that_scores_depend_on() -> None:
    one, other = Listener(weights="random"), Listener(weights="random", window=3.0)
    assert one.identity == {"version": 1, "weights": "random", "window": 2.0, "device": "cpu"}
    assert other.identity != one.identity
    assert one.on("cpu") == one
    assert make_backend("energy").identity == {"version": 1, "weights": None}


@pytest.mark.parametrize("method", ["ast", "panns", "audiomae"])
def test_windows_are_checked(method: str) -> None:
    for window in (0.5, 11.0):
        with pytest.raises(InputError, match=r"eventness.window \(.*\) must be from 1 to 10 seconds"):
            make_backend(method, window=window, weights="random")


def test_wrong_devices_are_refused() -> None:
    with pytest.raises(InputError, match=r"device \('gpu'\)"):
        _ = Listener(weights="random").on(ExecutionParams(devices="gpu").devices).identity


@pytest.mark.parametrize("method", ["ast", "panns", "audiomae"])
def test_real_sizes_with_random_weights(method: str) -> None:
    """The published sizes; a clip's scores do not depend on the other clips, nor a far second's on this one."""
    backend = make_backend(method, weights="random", window=1.0)
    clips = np.stack([wave(f"clip{i}", (32000,), scale=0.3) for i in range(2)])
    scores = backend(clips, num_seconds=2)
    assert scores.shape == (2, 2)
    assert scores.dtype == np.float32
    assert ((scores > 0) & (scores < 1)).all()
    np.testing.assert_array_equal(backend(clips[1:], num_seconds=2), scores[1:])
    clips[1, 16000:] = 0
    np.testing.assert_allclose(backend(clips[1:], num_seconds=2)[0, 0], scores[1, 0], rtol=0, atol=1e-5)


@pytest.mark.parametrize("method", ["ast", "panns", "audiomae"])
def test_another_file_is_refused(method: str, tmp_path: Path) -> None:
    path = tmp_path / "other.pth"
    torch.save({"model": {"head.weight": torch.zeros(3, 4)}}, path)
    backend: Backend = make_backend(method, weights=f"file:{path}")
    with pytest.raises(InputError, match=r"tensors do not fit .* missing from the file") as raised:
        backend(np.zeros((1, 16000), np.float32), num_seconds=1)
    assert ("left over in the file: head.weight" in str(raised.value)) == (method != "audiomae")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("method", ["ast", "panns", "audiomae"])
def test_cuda_agrees_with_the_cpu(method: str) -> None:
    clip = wave("clip", (1, 48000), scale=0.3)
    backend = make_backend(method, weights="random")
    np.testing.assert_allclose(backend.on("cuda")(clip, num_seconds=3), backend(clip, num_seconds=3), rtol=0, atol=1e-3)
