"""What each model understands in each condition."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from typing import Any, NamedTuple

import torch
from tqdm import tqdm

from avs.avsr.batch import Batch, Lips, Use
from avs.avsr.beam import Hypothesis
from avs.avsr.model import AvsrModel
from avs.avsr.normalize import Normalizer, normalizer
from avs.avsr.precision import reduced
from avs.avsr.recognizers import SearchParams
from avs.avsr.scores import MODELS, Heard, score
from avs.avsr.text import Tokenizer
from avs.avsr.wer import word_errors
from avs.core.errors import InputError
from avs.core.execute import exact_convolutions, one_thread
from avs.core.params import params
from avs.core.speech import Utterance


class Way(NamedTuple):
    """What the recognizer is given, and whose lips steer SEANet."""

    use: Use
    lips: Lips | None = None  # None: there is no SEANet


WAYS = {
    "audio": Way("audio"),
    "video": Way("lips"),
    "av": Way("both"),
    "audio_seanet": Way("audio", "right"),
    "av_seanet": Way("both", "right"),
    "audio_wrong": Way("audio", "wrong"),
    "av_wrong": Way("both", "wrong"),
}


@params
class EvaluationParams:
    """How hypotheses are searched for and scored.

    beam: None is as published, 50 for seq2seq, 3 for CTC/attention; normalizer: see avs/avsr/normalize.py;
    bfloat16: faster where the processor has it, less exact.
    """

    normalizer: Normalizer = "auto"
    beam: int | None = None
    length_penalty: float = 1.0
    ctc_weight: float = 0.1
    bfloat16: bool = False

    def __post_init__(self) -> None:
        self.search()

    def search(self) -> SearchParams:
        return SearchParams(self.beam, self.length_penalty, self.ctc_weight)


@dataclass(frozen=True)
class Evaluation:
    """`rows` by model, condition and clip, in this order; `notes` say what a reader should know of them."""

    rows: list[Heard]
    notes: list[str] = field(default_factory=list)

    def metrics(self) -> dict[str, Any]:
        return score(self.rows)


def evaluate(
    model: AvsrModel,
    tokenizer: Tokenizer,
    clips: Sequence[Utterance],
    batches: Callable[[str], Iterable[Batch]],
    conditions: Sequence[str],
    p: EvaluationParams | None = None,
    *,
    models: Sequence[str] = (),
) -> Evaluation:
    """Decode `clips` in each condition by each of `models` (default: all that this system has).

    batches: for a condition, the clips in batches, the same ones in the same order for each condition.
    Lips are looked at once a batch, SEANet runs once a batch and condition; `video` hears nothing, so that one decoding
    stands for every condition. PyTorch runs in one thread: the same bits on any number of cores.
    Raises InputError before anything is decoded for a model that is unknown or needs a SEANet that is not there and
    for clips without a word among them; later for conditions that differ in their clips.
    """
    p = p or EvaluationParams()
    names = _chosen(model, models, p)
    said = _normalized(clips, p)
    heard: dict[tuple[str, str], dict[str, str]] = {(name, c): {} for name in names for c in conditions}
    decoder = _Decoder(model, names, p.search())
    with _quiet(model), reduced(model.recognizer, p.bfloat16), _bar(len(said)) as bar:
        for side_by_side in _together(clips, batches, conditions):
            keys = side_by_side[0].clips
            for place, found in decoder.decode(dict(zip(conditions, side_by_side, strict=True))):
                texts = [tokenizer.decode(best[0].tokens) if best else "" for best in found]
                heard[place].update(zip(keys, texts, strict=True))
            bar.update(len(keys))
    rows = [row for place, texts in heard.items() for row in _rows(place, clips, said, texts, p)]
    return Evaluation(rows, _notes(rows, clips, p))


class _Decoder:
    """Asks the models `names` about batch after batch."""

    def __init__(self, model: AvsrModel, names: Sequence[str], search: SearchParams) -> None:
        self._model, self._search = model, search
        self._ways = {name: WAYS[name] for name in names}

    def decode(self, batches: Mapping[str, Batch]) -> Iterator[tuple[tuple[str, str], list[list[Hypothesis]]]]:
        """(model, condition) and the hypotheses of each clip, from the same clips in each condition."""
        device = next(self._model.parameters()).device
        first = next(iter(batches.values())).to(device)
        looked = any(way.use != "audio" for way in self._ways.values())
        seen = self._model.see(first) if looked else None
        unheard = None
        for condition, batch in batches.items():
            given = batch.to(device)
            sounds = {lips: self._sound(given, lips) for lips in {way.lips for way in self._ways.values()}}
            for name, way in self._ways.items():
                if way.use != "lips":
                    found = self._model.decode(sounds[way.lips], way.use, self._search, seen)
                else:
                    found = unheard = unheard or self._model.decode(first, way.use, self._search, seen)
                yield (name, condition), found

    def _sound(self, batch: Batch, lips: Lips | None) -> Batch:
        """The batch with SEANet's voice for a mixture, if its rows go through SEANet, and nothing left to separate."""
        mixture = self._model.voices(batch.steered(lips)) if lips else batch.mixture
        return replace(batch, mixture=mixture, seanet=torch.zeros_like(batch.seanet))


def _chosen(model: AvsrModel, models: Sequence[str], p: EvaluationParams) -> list[str]:
    """The models to ask, in the order of WAYS."""
    if unknown := [name for name in models if name not in WAYS]:
        raise InputError(f"models ({', '.join(unknown)}) must be of {', '.join(WAYS)}")
    if model.seanet is not None:
        return [name for name in WAYS if name in (models or MODELS)]
    if needing := [name for name in models if WAYS[name].lips]:
        raise InputError(f"models ({', '.join(needing)}) need SEANet, and this system has none")
    return [name for name in WAYS if name in (models or WAYS) and not WAYS[name].lips]


def _normalized(clips: Sequence[Utterance], p: EvaluationParams) -> dict[str, str]:
    """What is said in each clip, as it is scored."""
    said = {clip.key: normalizer(p.normalizer, clip.dataset_name)(clip.transcript) for clip in clips}
    if not any(said.values()):
        raise InputError(f"none of {len(said)} clips has a word that counts in its transcript: no WER can be had")
    return said


def _together(
    clips: Sequence[Utterance], batches: Callable[[str], Iterable[Batch]], conditions: Sequence[str]
) -> Iterator[tuple[Batch, ...]]:
    """The batches of all conditions side by side: the same clips in each."""
    if not conditions:
        raise InputError("conditions () must name one at least, such as clean")
    missing = {clip.key for clip in clips}
    for row in zip_longest(*(batches(condition) for condition in conditions)):
        for condition, batch in zip(conditions, row, strict=True):
            if batch is None or row[0] is None or batch.clips != row[0].clips:
                raise InputError(
                    f"condition {condition} is not of the same clips, in the same batches, as {conditions[0]}"
                )
        if unknown := set(row[0].clips) - missing:
            raise InputError(f"clip {min(unknown)} of a batch is not in the table, or in two batches")
        missing -= set(row[0].clips)
        yield row
    if missing:
        raise InputError(f"{len(missing)} clips are in no batch, first {min(missing)}")


def _rows(
    place: tuple[str, str],
    clips: Sequence[Utterance],
    said: Mapping[str, str],
    heard: Mapping[str, str],
    p: EvaluationParams,
) -> Iterator[Heard]:
    name, condition = place
    for clip in clips:
        text = heard[clip.key]
        errors, words = word_errors(said[clip.key], normalizer(p.normalizer, clip.dataset_name)(text))
        known = (clip.key, clip.dataset_name, clip.speaker, condition, name, clip.transcript, text)
        yield Heard(*known, errors=errors, words=words)


def _notes(rows: Sequence[Heard], clips: Sequence[Utterance], p: EvaluationParams) -> list[str]:
    rules = Counter(normalizer(p.normalizer, clip.dataset_name).__name__ for clip in clips)
    notes = ["words compared as " + ", ".join(f"{rule} ({count} clips)" for rule, count in sorted(rules.items()))]
    if unsaid := len({row.clip for row in rows if not row.words}):
        notes.append(
            f"{unsaid} of {len(clips)} clips have no word in their reference: each word heard there is an error"
        )
    silent = Counter((row.model, row.condition) for row in rows if not row.hypothesis)
    if silent:
        most, count = silent.most_common(1)[0]
        notes.append(f"{silent.total()} of {len(rows)} hypotheses are empty, most {' in '.join(most)}: {count}")
    return notes


@contextmanager
def _quiet(model: AvsrModel) -> Iterator[None]:
    """In eval mode, without gradients, in one thread; then each part is in its own mode again."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        with torch.inference_mode(), one_thread(), exact_convolutions():
            model.eval()
            yield
    finally:
        for module, training in modes:
            module.training = training


def _bar(clips: int) -> tqdm[Any]:
    return tqdm(total=clips, desc="decode", unit="clip", disable=not sys.stderr.isatty())
