"""What would stop training on some clips, found before it starts: each problem names its clip."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise

from avs.avsr.text import Tokenizer
from avs.core.errors import InputError
from avs.lips.media import SpeechClip, SpeechShards
from avs.lips.preflight import Problem, check_length, refuse

_TABLE = "mend or remove their rows, then run: dvc repro preprocess@speech"
_SHARDS = "run: dvc repro -f preprocess@speech"


def check_all(checks: Iterable[Callable[[], None]]) -> None:
    """Run all checks, then raise one InputError with what each of them has to say."""
    wrong = []
    for check in checks:
        try:
            check()
        except InputError as error:
            wrong.append(str(error))
    if wrong:
        raise InputError("\n".join(wrong))


def check_splits(clips: Collection[SpeechClip], splits: Iterable[str]) -> None:
    there = sorted({clip.split for clip in clips})
    if absent := [split for split in splits if split not in there]:
        raise InputError(f"split {', '.join(absent)}: no clip (splits there: {', '.join(there) or 'none'})")


def check_mixture(names: Iterable[str], clips: Collection[SpeechClip]) -> None:
    there = sorted({clip.dataset_name for clip in clips})
    if absent := [name for name in names if name not in there]:
        raise InputError(f"avsr.mixture: no training clip of {', '.join(absent)} (data sets there: {', '.join(there)})")


def check_others(clips: Iterable[SpeechClip], others: Mapping[str, SpeechClip]) -> None:
    """That whoever goes through SEANet has another clip, whose lips are the wrong ones."""
    if lone := [clip for clip in clips if others.get(clip.key) == clip]:
        raise InputError(
            f"split {lone[0].split}: only {lone[0].key} goes through SEANet, and its control, wrong lips, needs two"
        )


def check_media(media: SpeechShards, clips: Sequence[SpeechClip], *, other_rates: bool) -> None:
    """Names of data sets, frame rates, and 640 samples a frame, by the shards' headers alone."""
    refuse([problem for clip in clips for problem in _of_media(media, clip, other_rates)], len(clips), _SHARDS)


def _of_media(media: SpeechShards, clip: SpeechClip, other_rates: bool) -> Iterator[Problem]:
    if not clip.dataset_name:
        yield Problem(clip.key, "dataset_name is missing")
    if not other_rates and "other_rate" in clip.flags.split(","):
        yield Problem(clip.key, "video was not at 25 frames a second", f"video={clip.video}")
    if clip.frames < 1:
        yield Problem(clip.key, "no frame")
    yield from check_length(clip, clip.frames, media.samples(clip))


def check_labels(tokenizer: Tokenizer, clips: Sequence[SpeechClip], longest: int) -> None:
    """Words in some clips (in others somebody may be silent), fewer labels than frames as CTC must have it, and no clip
    of more frames than `longest`."""
    if not any(clip.transcript.strip() for clip in clips):
        raise InputError(f"no words: all {len(clips)} training clips have an empty transcript ({_TABLE})")
    refuse([problem for clip in clips for problem in _of_labels(tokenizer, clip, longest)], len(clips), _TABLE)


def _of_labels(tokenizer: Tokenizer, clip: SpeechClip, longest: int) -> Iterator[Problem]:
    labels = tokenizer.encode(clip.transcript)
    between = sum(one == other for one, other in pairwise(labels))  # a blank parts equal labels
    if len(labels) + between > clip.frames:
        yield Problem(clip.key, "more labels than frames", f"labels={len(labels)}, frames={clip.frames}")
    if clip.frames > longest:
        yield Problem(clip.key, "longer than a batch", f"frames={clip.frames}, at most {longest}")
