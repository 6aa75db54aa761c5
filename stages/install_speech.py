"""Stage `install@speech`: a data set of speech → the table `clips.tsv`, `words.tsv`, and `failures.tsv`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from avs import speech
from avs.core.clips import Failed, check_failures, write_table
from avs.core.speech import Utterance, Word
from stages import run

if TYPE_CHECKING:
    from avs.config import Config

OUT = Path("data/install/speech")


def main(config: Config) -> dict[str, int]:
    dataset = speech.open_speech(config.speech_dataset, config.speech_data)
    clips, words, failed = speech.install_speech(dataset, config.execution)
    write_table(OUT / "clips.tsv", clips, Utterance)
    write_table(OUT / "words.tsv", words, Word)
    write_table(OUT / "failures.tsv", failed, Failed)
    check_failures(
        failed, len(clips) + len(failed), config.speech_data.max_failed_fraction, "speech_data.max_failed_fraction"
    )
    return {"clips": len(clips), "words": len(words), "failed": len(failed)}


if __name__ == "__main__":
    run(main, "install@speech")
