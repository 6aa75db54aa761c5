"""Stage `preprocess@speech`: the table of utterances → shards with 25 grey mouths a second and 16 kHz mono sound."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from avs.core.clips import Failed, check_failures, read_table, write_table
from avs.core.speech import Utterance, Word
from avs.lips.preprocess import preprocess_speech
from avs.speech import open_speech
from avs.speech.demo import SpeechDemo
from avs.speech.mixture import Mixture
from stages import run

if TYPE_CHECKING:
    from avs.config import Config


INSTALLED, OUT = Path("data/install/speech"), Path("data/media/speech")


def main(config: Config) -> dict[str, int]:
    clips, words = read_table(INSTALLED / "clips.tsv", Utterance), read_table(INSTALLED / "words.tsv", Word)
    missing = read_table(INSTALLED / "failures.tsv", Failed)
    dataset = open_speech(config.speech_dataset, config.speech_data)
    if isinstance(dataset, SpeechDemo | Mixture):  # videos and links that can be made again; to fetch is for install
        dataset.prepare(config.execution)
    written, failed, computed = preprocess_speech(clips, words, dataset.folder(), OUT, config.lips, config.execution)
    write_table(OUT / "failures.tsv", missing + failed, Failed)
    check_failures(failed, len(clips), config.speech_data.max_failed_fraction, "speech_data.max_failed_fraction")
    return {"clips": len(written), "failed": len(failed), "computed": computed}


if __name__ == "__main__":
    run(main, "preprocess@speech")
