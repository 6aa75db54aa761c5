"""Decoding of models in conditions: that each hears what it should, once; rows, scores and families."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from avs.avsr.avhubert import AVHubertConfig
from avs.avsr.batch import Batch
from avs.avsr.beam import Hypothesis
from avs.avsr.decoders import DecoderConfig
from avs.avsr.evaluate import WAYS, Evaluation, EvaluationParams, evaluate
from avs.avsr.model import AvsrModel
from avs.avsr.recognizers import CtcAttention, SearchParams
from avs.avsr.scores import CONTROLS, MODELS, Heard, families, score, write_hypotheses
from avs.avsr.seanet import SEANet
from avs.avsr.text import word_tokenizer
from avs.core.clips import read_table
from avs.core.errors import InputError
from avs.core.execute import one_thread
from avs.core.speech import Utterance


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """The networks are small: on a busy machine, threads that wait for each other take many times as long."""
    with one_thread():
        yield


WORDS = tuple(f"w{number:03}" for number in range(200))
TOKENIZER = word_tokenizer(WORDS)
LENGTHS = {"a": 5, "b": 4, "c": 5}
TEXTS = {"a": "W001, w002", "b": "w003", "c": ""}


class Listener(CtcAttention):
    """Says a word for each frame, by the size of its features: what it is given decides what it says."""

    calls: list[Tensor]

    def search(self, features: Tensor, padding_mask: Tensor | None, params: SearchParams) -> list[list[Hypothesis]]:
        self.calls.append(features)
        counts = [len(row) for row in features] if padding_mask is None else (~padding_mask).sum(dim=1).tolist()
        said = [
            [2 + int(1e4 * float(f.double().abs().mean())) % len(WORDS) for f in row[:n]]
            for row, n in zip(features, counts, strict=True)
        ]
        return [[Hypothesis(tuple(tokens), 0.0)] for tokens in said]


def system(*, seanet: bool = True) -> AvsrModel:
    torch.manual_seed(0)
    encoder = AVHubertConfig(width=16, layers=1, heads=2, inner=16, front_end="small", modality_dropout=0.0)
    recognizer = Listener(encoder, DecoderConfig(len(TOKENIZER.symbols), 16, 1, 2, 16))
    recognizer.calls = []
    return AvsrModel(recognizer, SEANet(N=16, L=40, B=8, H=8, K=20, R=2) if seanet else None)


def batch_of(clips: str, loud: float, bypass: str = "b") -> Batch:
    def made(shape: tuple[int, ...], seed: int) -> Tensor:
        return torch.rand(shape, generator=torch.Generator().manual_seed(seed))

    frames = [LENGTHS[clip] for clip in clips]
    longest = max(frames)
    there = torch.arange(longest) < torch.tensor(frames)[:, None]
    lips = torch.stack([made((longest, 88, 88), ord(clip)) * 255 for clip in clips]).byte()
    sound = torch.stack([made((longest, 640), 2 * ord(clip)) for clip in clips]) * loud
    muse = torch.stack([made((longest, 512), 3 * ord(clip)) for clip in clips])
    return Batch(
        clips=tuple(clips),
        frames=tuple(frames),
        mixture=(sound * there[..., None]).flatten(1),
        voice=torch.zeros(len(clips), 640 * longest),
        lips=lips * there[..., None, None],
        muse=muse * there[..., None],
        seanet=torch.tensor([clip not in bypass for clip in clips]),
        labels=torch.zeros(len(clips), 1, dtype=torch.long),
        words=torch.full((len(clips), longest), -1),
        wrong_muse=muse.flip(0, 1) * there[..., None],
    )


@dataclass
class Fake:
    """Three clips in two batches."""

    batched: tuple[str, ...] = ("ab", "c")
    texts: dict[str, str] | None = None
    bypass: str = "b"  # out of SEANet's scope
    wrong: bool = True

    @property
    def clips(self) -> list[Utterance]:
        said = TEXTS if self.texts is None else self.texts
        return [Utterance(key, "grid", "test", f"{key}.mp4", 0, 0, text, "s1", "") for key, text in said.items()]

    def batches(self, condition: str) -> Iterator[Batch]:
        for clips in self.batched:
            batch = batch_of(clips, {"clean": 0.1, "snr_0": 0.5}[condition], self.bypass)
            yield batch if self.wrong else replace(batch, wrong_muse=None)


def run(model: AvsrModel, data: Fake, conditions: Sequence[str], *args: Any, **options: Any) -> Evaluation:
    return evaluate(model, TOKENIZER, data.clips, data.batches, conditions, *args, **options)


def heard(rows: list[Heard], model: str, condition: str) -> list[str]:
    return [row.hypothesis for row in rows if (row.model, row.condition) == (model, condition)]


def direct(model: AvsrModel, condition: str, use: Any, *, seanet: bool) -> list[str]:
    """Clip by clip of a batch, without anything shared."""
    texts = []
    for batch in Fake().batches(condition):
        given = batch if seanet else replace(batch, seanet=torch.zeros_like(batch.seanet))
        texts += [TOKENIZER.decode(found[0].tokens) for found in model.eval().decode(given, use)]
    return texts


def test_each_model_hears_and_sees_what_its_name_says() -> None:
    model = system()
    rows = run(model, Fake(), ["clean", "snr_0"]).rows
    assert len(rows) == 2 * len(MODELS) * len(LENGTHS)
    for condition in ("clean", "snr_0"):
        assert heard(rows, "audio", condition) == direct(model, condition, "audio", seanet=False)
        assert heard(rows, "video", condition) == direct(model, condition, "lips", seanet=False)
        assert heard(rows, "av", condition) == direct(model, condition, "both", seanet=False)
        assert heard(rows, "audio_seanet", condition) == direct(model, condition, "audio", seanet=True)
        assert heard(rows, "av_seanet", condition) == direct(model, condition, "both", seanet=True)
    assert heard(rows, "audio", "clean") != heard(rows, "audio", "snr_0")
    assert heard(rows, "audio", "clean")[1] == heard(rows, "audio_seanet", "clean")[1]  # b goes by SEANet
    assert heard(rows, "audio", "clean")[0] != heard(rows, "audio_seanet", "clean")[0]


def test_lips_are_decoded_once_for_all_conditions() -> None:
    model = system()
    rows = run(model, Fake(), ["clean", "snr_0"], models=["video"]).rows
    assert heard(rows, "video", "clean") == heard(rows, "video", "snr_0")
    assert len(model.recognizer.calls) == len(Fake().batched)


def test_wrong_lips_steer_seanet_and_the_recognizer_sees_the_right_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    model, steered = system(), []

    def voices(batch: Batch) -> Tensor:
        if bool(batch.seanet.any()):  # else it is the recognizer that asks, for a sound that is separated already
            steered.append(batch.muse)
        return batch.mixture

    monkeypatch.setattr(model, "voices", voices)
    rows = run(model, Fake(), ["clean"], models=["av", "av_wrong"]).rows
    for muse, batch in zip(steered, Fake().batches("clean"), strict=True):
        assert torch.equal(muse, batch.wrong_muse)
    assert heard(rows, "av_wrong", "clean") == heard(rows, "av", "clean")


def test_wrong_lips_are_asked_for() -> None:
    assert tuple(WAYS) == (*MODELS, *CONTROLS)
    rows = run(system(), Fake(bypass=""), ["clean"], models=tuple(WAYS)).rows
    assert list(dict.fromkeys(row.model for row in rows)) == list(WAYS)
    assert heard(rows, "audio_wrong", "clean")[0] != heard(rows, "audio_seanet", "clean")[0]


def test_clips_outside_the_scope_are_heard_as_they_are() -> None:
    """Some of a batch, and all: neither needs features, and no lips steer anything."""
    rows = run(system(), Fake(bypass="abc", wrong=False), ["clean"]).rows
    assert heard(rows, "av_seanet", "clean") == heard(rows, "av", "clean")
    assert heard(rows, "audio_seanet", "clean") == heard(rows, "audio", "clean")
    rows = run(system(), Fake(bypass="ab"), ["clean"], models=["av", "av_wrong"]).rows
    same = [a == b for a, b in zip(heard(rows, "av", "clean"), heard(rows, "av_wrong", "clean"), strict=True)]
    assert same == [True, True, False]


def test_without_seanet_there_are_three_models() -> None:
    rows = run(system(seanet=False), Fake(), ["clean"]).rows
    assert {row.model for row in rows} == {"audio", "video", "av"}


def test_modes_are_as_they_were_and_a_second_time_is_the_same() -> None:
    model = system().train()
    model.recognizer.eval()
    before = [module.training for module in model.modules()]
    first = run(model, Fake(), ["clean"])
    assert [module.training for module in model.modules()] == before
    assert run(model, Fake(), ["clean"]).rows == first.rows


def test_bfloat16_leaves_seanet_and_the_weights_alone() -> None:
    model = system()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    rows = run(model, Fake(), ["clean"], EvaluationParams(bfloat16=True)).rows
    assert {row.model for row in rows} == set(MODELS)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_rows_and_notes() -> None:
    found = run(system(), Fake(), ["clean"], models=["audio"])
    assert [(row.clip, row.reference, row.words) for row in found.rows] == [
        ("a", "W001, w002", 2),
        ("b", "w003", 1),
        ("c", "", 0),
    ]
    assert found.rows[2].errors == 5  # a word heard in each of its frames, where none is said
    assert found.notes == [
        "words compared as plain (3 clips)",
        "1 of 3 clips have no word in their reference: each word heard there is an error",
    ]
    metrics = found.metrics()
    assert (metrics["clips"], metrics["words"]) == (3, 3)
    assert metrics["wer"]["audio"]["clean"]["wer"] == sum(row.errors for row in found.rows) / 3


def test_empty_hypotheses_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    model = system()
    monkeypatch.setattr(model.recognizer, "search", lambda features, *_: [[] for _ in features])
    found = run(model, Fake(), ["clean"], models=["audio", "av"])
    assert found.notes[-1] == "6 of 6 hypotheses are empty, most audio in clean: 3"
    assert found.metrics()["wer"]["av"]["clean"]["wer"] == 1


@pytest.mark.parametrize(
    ("data", "given", "message"),
    [
        (Fake(), {"models": ["sound"]}, r"models \(sound\) must be of audio, video"),
        (Fake(), {"conditions": []}, "must name one"),
        (Fake(texts=dict.fromkeys(TEXTS, "?")), {}, "none of 3 clips has a word"),
        (Fake(("ab",)), {}, "1 clips are in no batch, first c"),
        (Fake(("ab", "cb")), {}, "clip b of a batch is not in the table, or in two"),
        (Fake(wrong=False), {"models": ["audio_wrong"]}, "wrong lips need MuSE's features of other clips"),
    ],
)
def test_refused(data: Fake, given: dict[str, Any], message: str) -> None:
    arguments = {"conditions": ["clean"], "models": []} | given
    with pytest.raises(InputError, match=message):
        run(system(), data, **arguments)


def test_seanet_that_is_not_there_is_refused() -> None:
    with pytest.raises(InputError, match=r"\(av_seanet\) need SEANet"):
        run(system(seanet=False), Fake(), ["clean"], models=["av", "av_seanet"])


@pytest.mark.parametrize("other", [("a", "bc"), ("ab",), ("ab", "c", "a")])
def test_conditions_must_hold_the_same_clips(other: tuple[str, ...]) -> None:
    def batches(condition: str) -> Iterator[Batch]:
        return Fake().batches("clean") if condition == "clean" else Fake(other).batches("snr_0")

    with pytest.raises(InputError, match=r"condition (clean|snr_0) is not of the same clips"):
        evaluate(system(), TOKENIZER, Fake().clips, batches, ["clean", "snr_0"], models=["audio"])


def test_what_the_data_refuses_comes_through() -> None:
    def batches(condition: str) -> Iterator[Batch]:
        raise InputError(f"no mixtures of {condition}")
        yield

    with pytest.raises(InputError, match="no mixtures of snr_0"):
        evaluate(system(), TOKENIZER, Fake().clips, batches, ["snr_0"], models=["audio"])


def test_hypotheses_are_lines_of_a_table(tmp_path: Path) -> None:
    row = Heard("a", "grid", "s1", "clean", "av", 'one\ttwo\n"three"', "x\r\ny\x00\u202ez", 2, 3)
    path = tmp_path / "hypotheses.tsv"
    write_hypotheses(path, [row, row])
    assert len(path.read_text().splitlines()) == 3
    assert read_table(path, Heard)[1] == replace(row, reference='one two "three"', hypothesis="x y z")


def rows_of(errors: dict[tuple[str, str], list[int]], words: int = 6) -> list[Heard]:
    return [
        Heard(f"c{number}", "grid", "s1", condition, model, "", "", wrong, words)
        for (model, condition), counts in errors.items()
        for number, wrong in enumerate(counts)
    ]


def test_scores_are_paired_and_adjusted_within_a_family() -> None:
    few, many = [0, 1] * 20, [2, 1, 2, 3] * 10
    errors = {(m, c): few if m == "av" and c != "clean" else many for m in MODELS for c in ("clean", "snr_5", "snr_0")}
    found = score(rows_of(errors))
    assert found["wer"]["av"]["snr_0"]["wer"] == pytest.approx(0.5 / 6)
    assert set(found["contrasts"]) == {"clean", "snr_5", "snr_0"}
    row = found["contrasts"]["snr_0"]["av-audio"]
    assert row["diff"] == pytest.approx(-1.5 / 6)
    assert row["p"] < row["p_holm"] == pytest.approx(6 * row["p"])  # six planned tests
    assert found["contrasts"]["snr_0"]["av_seanet-av"]["diff"] > 0
    assert found["contrasts"]["clean"]["av-audio"] == {"diff": 0, "ci_low": 0, "ci_high": 0, "p": 1, "p_holm": 1}


def test_families() -> None:
    """Planned: the three questions in noise only; the same where nothing is in the way explains."""
    found = families([(m, c) for m in (*MODELS, *CONTROLS) for c in ("clean", "snr_0", "talker_0")])
    assert found["planned"] == [
        (c, a, b)
        for a, b in (("av", "audio"), ("av_seanet", "av"), ("audio_seanet", "audio"))
        for c in ("snr_0", "talker_0")
    ]
    assert ("clean", "av_seanet", "av") in found["explanatory"]
    assert ("talker_0", "av_seanet", "av_wrong") in found["explanatory"]
    assert not set(found["planned"]) & set(found["explanatory"])
    assert families([("audio", "snr_0"), ("video", "snr_0")]) == {"planned": [], "explanatory": []}


def test_scores_refuse_what_cannot_be_paired() -> None:
    rows = rows_of({("audio", "clean"): [0, 1], ("av", "clean"): [0, 1]})
    with pytest.raises(InputError, match="av in clean has 1 of 2 clips"):
        score(rows[:-1])
    with pytest.raises(InputError, match="c1 has 5 words in one row and 6 in another"):
        score([*rows[:-1], replace(rows[-1], words=5)])


def test_a_wrong_search_is_refused_with_its_name() -> None:
    with pytest.raises(ValueError, match=r"beam \(0\) must be >= 1"):
        EvaluationParams(beam=0)
