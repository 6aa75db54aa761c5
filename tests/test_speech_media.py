from pathlib import Path

import numpy as np
import pytest

from avs.core.clips import write_table
from avs.core.media import wav
from avs.core.shards import add_member, write_shards
from avs.core.speech import Word
from avs.lips.media import SpeechClip, SpeechShards, film, unfilm


def lips(frames: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (frames, 96, 96), dtype=np.uint8)


@pytest.mark.parametrize("frames", [1, 75])
def test_pictures_come_back_as_they_were(frames: int) -> None:
    pictures = lips(frames)
    np.testing.assert_array_equal(unfilm(film(pictures)), pictures)
    assert film(pictures) == film(pictures.copy())


def test_a_clip_is_read_from_its_place(tmp_path: Path) -> None:
    sound = {key: np.arange(640 * (n + 1), dtype=np.int16) for n, key in enumerate("ab")}
    clips = [SpeechClip(k, "grid", "train", k, 0, 0, "bin blue", "s1", "", frames=n + 1) for n, k in enumerate("ab")]

    def append(tar, shard, clip):
        start = tar.offset
        add_member(tar, f"{clip.key}/lips.mkv", film(lips(clip.frames)))
        add_member(tar, f"{clip.key}/audio.wav", wav(sound[clip.key]))
        return SpeechClip(**vars(clip) | {"shard": shard, "offset": start})

    write_table(tmp_path / "index.tsv", write_shards(clips, tmp_path, append), SpeechClip)
    write_table(tmp_path / "words.tsv", [Word("b", "bin", 0.1, 0.2)], Word)
    shards = SpeechShards(tmp_path)
    for clip in shards.clips:
        np.testing.assert_array_equal(shards.lips(clip), lips(clip.frames))
        np.testing.assert_array_equal(shards.audio(clip), sound[clip.key])
    assert shards.words["b"] == [Word("b", "bin", 0.1, 0.2)]
