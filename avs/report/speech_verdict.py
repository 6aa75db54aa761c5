"""The verdict of the speech study in words: what differs, what the controls say, and what speaks against it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from avs.avsr.scores import SEPARATE, Heard
from avs.avsr.wer import errors_of
from avs.report.numbers import FEW, bounds, p_value, points, sign
from avs.report.speech_results import SpeechResults, Tree, marks
from avs.report.speech_words import condition_text, conditions_in_order, model_text
from avs.speech.demo import NAME as SYNTHETIC

ASKED = (
    ("av", "audio", "Do lips help: both against sound alone?"),
    ("audio_seanet", "audio", "Does SEANet help sound alone?"),
    ("av_seanet", "av", "Does SEANet help where lips are read anyway?"),
    ("audio_seanet", "audio_separate", "Does joint training help sound alone?"),
    ("av_seanet", "av_separate", "Does joint training help where lips are read anyway?"),
    ("audio_separate", "audio", "Does SEANet by itself help sound alone?"),
    ("av_separate", "av", "Does SEANet by itself help where lips are read anyway?"),
    ("av_seanet", "audio_seanet", "Do lips still help after SEANet?"),
    ("av_seanet", "audio", "Do SEANet and lips together help: against sound alone?"),
    ("av", "video", "Does sound help: both against lips alone?"),
    ("av_seanet", "video", "Does sound help after SEANet: against lips alone?"),
    ("audio_seanet", "audio_wrong", "Does SEANet need the right lips, before sound alone?"),
    ("av_seanet", "av_wrong", "Does SEANet need the right lips, before both?"),
)
SMALL = 100  # clips, below which a page says how few there are
NOTHING = 0.9  # of the words wrong: next to nothing is understood


@dataclass(frozen=True)
class Question:
    """A question that a contrast a − b answers: its row of each condition, the difference being of error rates."""

    text: str
    a: str
    b: str
    rows: Mapping[str, Tree]

    @property
    def lower(self) -> list[str]:
        return [condition for condition, row in self.rows.items() if sign(row) < 0]

    @property
    def higher(self) -> list[str]:
        return [condition for condition, row in self.rows.items() if sign(row) > 0]


@dataclass(frozen=True)
class Card:
    """One question's answer, and the largest difference behind it; `sign` is that of the answer, 0 for none."""

    title: str
    answer: str
    sign: int
    largest: str


@dataclass(frozen=True)
class SpeechVerdict:
    """What lips do in a sentence, what SEANet does, the answers behind it, what the controls say, and cautions."""

    sentence: str
    more: list[str]
    cards: list[Card]
    questions: list[Question]
    controls: list[str]
    cautions: list[str]


def judge(results: SpeechResults) -> SpeechVerdict:
    asked = questions(results.metrics.get("contrasts", {}))
    first, *more = _sentences(results.metrics["wer"], asked)
    return SpeechVerdict(
        sentence=first,
        more=more,
        cards=[_card(question) for question in asked[:3] if question.text],
        questions=asked,
        controls=_controls(results.metrics.get("si_sdr", {})) + _wrong_lips(asked),
        cautions=_cautions(results),
    )


def questions(contrasts: Mapping[str, Mapping[str, Tree]]) -> list[Question]:
    """Those of `ASKED` that were tested, whichever way round; then the other contrasts, without words.

    contrasts: condition → `A-B` → diff, ci_low, ci_high, p, p_holm.
    """
    pairs = list(dict.fromkeys(name for rows in contrasts.values() for name in rows))
    known = {frozenset((a, b)): (text, a, b) for a, b, text in ASKED}
    found = []
    for pair in pairs:
        left, _, right = pair.partition("-")
        text, a, b = known.get(frozenset((left, right)), ("", left, right))
        rows = {c: contrasts[c][pair] for c in conditions_in_order(contrasts) if pair in contrasts[c]}
        found.append(Question(text, a, b, rows if a == left else {c: _turned(row) for c, row in rows.items()}))
    order = [text for _, _, text in ASKED]
    return sorted(found, key=lambda question: order.index(question.text) if question.text else len(order))


def _turned(row: Tree) -> Tree:
    return {**row, "diff": -row["diff"], "ci_low": -row["ci_high"], "ci_high": -row["ci_low"]}


def _sentences(wer: Mapping[str, Mapping[str, Tree]], asked: Sequence[Question]) -> list[str]:
    if all(row["wer"] >= NOTHING for rows in wer.values() for row in rows.values()):
        return [f"Nothing can be concluded: every model gets {NOTHING:.0%} or more of the words wrong, everywhere."]
    said = []
    for a, b, subject, (lower, higher, make) in (
        ("av", "audio", "Lips", ("lower", "raise", "make")),
        ("audio_seanet", "audio", "For sound alone, SEANet", ("lowers", "raises", "makes")),
        ("av_seanet", "av", "With lips, SEANet", ("lowers", "raises", "makes")),
        ("audio_seanet", "audio_separate", "For sound alone, joint training", ("lowers", "raises", "makes")),
        ("av_seanet", "av_separate", "With lips, joint training", ("lowers", "raises", "makes")),
    ):
        for question in asked:
            if (question.a, question.b) == (a, b):
                said.append(_claim(subject, question, lower, higher, make))
    return said or ["Word error rates by model and condition; no difference between models was tested."]


def _claim(subject: str, question: Question, lower: str, higher: str, make: str) -> str:
    total, less, more = len(question.rows), len(question.lower), len(question.higher)
    if not less and not more:
        return f"{subject} {make} no difference that can be told, {_of(0, total)}."
    parts = [f"{lower} word errors {_of(less, total)}"] if less else []
    if more:
        parts.append(f"{higher} them in {more}" if less else f"{higher} word errors {_of(more, total)}")
    open_ = "; elsewhere no difference can be told" if less + more < total else ""
    return f"{subject} {' and '.join(parts)}{open_}."


def _of(count: int, total: int) -> str:
    if total == 1:
        return "in the one condition tested"
    if count == total:
        return f"in all {total} conditions"
    return f"in {count} of {total} conditions" if count else f"in any of {total} conditions"


def _card(question: Question) -> Card:
    less, more, total = len(question.lower), len(question.higher), len(question.rows)
    answer = ", ".join(f"{word} in {count}" for word, count in (("fewer errors", less), ("more", more)) if count)
    condition, row = max(question.rows.items(), key=lambda item: abs(item[1]["diff"]))
    where = f"Largest difference: {points(row['diff'])} points {bounds(row)}, {condition_text(condition)}, "
    return Card(
        title=f"{question.text} {question.a} − {question.b}",
        answer=f"{answer or 'no difference told'} of {total}" if answer else "no difference told",
        sign=-1 if less and not more else 1 if more and not less else 0,
        largest=where + f"p {p_value(row['p_holm'])} after Holm",
    )


def _controls(si_sdr: Mapping[str, Tree]) -> list[str]:
    """In each condition: what SEANet gains with the clip's lips, beside what it gains with another clip's."""
    said = []
    for condition in conditions_in_order(si_sdr):
        right, wrong = gain(si_sdr[condition]), gain(si_sdr[condition].get("wrong_lips"))
        if not right or not wrong:
            continue
        text = f"{condition_text(condition)}: SEANet changes SI-SDR by {decibels(right)} with the clip's own lips, "
        text += f"by {decibels(wrong)} with another clip's: "
        if not {"low", "high"} <= right.keys() & wrong.keys():
            text += "without intervals, nothing follows."
        elif right["low"] > wrong["high"]:
            text += "it follows the lips."
        elif right["low"] > 0 and wrong["low"] > 0:
            text += "that it follows the lips cannot be told; it may know the voice."
        else:
            text += "that it follows the lips cannot be told."
        said.append(text[0].upper() + text[1:])
    return said


def _wrong_lips(asked: Sequence[Question]) -> list[str]:
    """Of each contrast with SEANet steered by another clip's lips: whether the right ones leave fewer errors."""
    return [
        f"{_claim('The right lips for SEANet', question, 'lower', 'raise', 'make')[:-1]}: {question.a} − {question.b}."
        for question in asked
        if question.b.endswith("_wrong")
    ]


def gain(row: object) -> dict[str, float]:
    """The improvement, with its interval where there is one, of a row: itself, or what it has under that name."""
    if isinstance(row, Mapping):
        return gain(row["improvement"]) if "improvement" in row else {k: v for k, v in row.items() if k in _SPAN}
    return {"mean": float(row)} if isinstance(row, int | float) else {}


_SPAN = ("mean", "low", "high")


def decibels(row: Mapping[str, float]) -> str:
    text = f"{row['mean']:+.1f} dB"
    if "low" in row and "high" in row:
        text += f" [{row['low']:+.1f}, {row['high']:+.1f}]"
    return text.replace("-", "−")


def _cautions(results: SpeechResults) -> list[str]:
    answers, clips = results.answers, len(results.clips)
    said = _synthetic({answer.dataset_name for answer in answers}) + _nothing(results.metrics["wer"])
    words = sum({answer.clip: answer.words for answer in answers}.values())
    if clips < FEW:
        said.append(f"Only {clips} clips of {words} words: below {FEW}, nobody has measured what intervals are worth.")
    elif clips < SMALL:
        said.append(f"A small test set: {clips} clips of {words} words. What is not told may still be there.")
    speakers = {answer.speaker for answer in answers if answer.speaker}
    if len(speakers) in (1, 2, 3):
        said.append(f"The clips are of {_counted(len(speakers), 'speaker')}: nothing is said of other people.")
    said.append("Intervals are over clips: how far one training differs from the next is not in them.")
    if any(name in results.metrics["wer"] for name in SEPARATE.values()):
        said.append(
            "audio, video and av are of the recognizer before joint training, audio_seanet and av_seanet after it: "
            "what SEANet adds to the same recognizer is audio_separate − audio and av_separate − av."
        )
    if "contrasts" not in results.metrics:
        said.append("No difference between models was tested: intervals of two rates that overlap say little of it.")
    if others := sum(not same_count(answer) for answer in answers):
        said.append(
            f"In {others} of {_counted(len(answers), 'answer')} the marks below differ from the errors that were "
            "counted: the text was normalised for counting."
        )
    return said


def _synthetic(datasets: Iterable[str]) -> list[str]:
    names = set(datasets)
    if SYNTHETIC not in names:
        return []
    which = "The clips are" if names == {SYNTHETIC} else "Some of the clips are"
    return [f"{which} synthetic: generated voices and drawn mouths that say made-up words. They say nothing of speech."]


def _nothing(wer: Mapping[str, Tree]) -> list[str]:
    poor = [model for model, rows in wer.items() if rows and min(row["wer"] for row in rows.values()) >= NOTHING]
    return [
        f"The model {model} ({model_text(model)}) gets at least {NOTHING:.0%} of the words wrong in every condition: "
        "it has learnt next to nothing."
        for model in poor
    ]


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def same_count(answer: Heard) -> bool:
    """Whether the differences between the texts are as many as the errors that were counted."""
    return errors_of(marks(answer)) == answer.errors
