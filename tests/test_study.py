"""A whole study on a handful of clips: phases that share what they can, what is frozen, each model's rows, refusals."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from avhubert_golden import ESPNET, SMALL, filled
from speech_clips import clip_of, hiss, write_clips, write_muse
from torch import nn

from avs.avsr import launch, recipes
from avs.avsr.checkpoints import write_network
from avs.avsr.evaluate import EvaluationParams
from avs.avsr.recipes import AvsrParams, PhaseParams
from avs.avsr.recognizers import CtcAttention
from avs.avsr.scores import CONTROLS, MODELS, SEPARATE
from avs.avsr.seanet import SEANet
from avs.avsr.study import PLAIN, Study, Trainer, run_study, train_apart
from avs.avsr.text import Tokenizer
from avs.core.errors import InputError
from avs.core.execute import one_thread
from avs.core.speech import Word
from avs.lips.media import SpeechClip

CLIPS = [
    *(
        clip_of(key, 15 + n % 2, transcript=said, speaker="mn"[n % 2])
        for n, (key, said) in enumerate([("a", "bin blue"), ("b", "set now"), ("c", "blue now"), ("d", "")])
    ),
    clip_of("e", 14, transcript="set blue", speaker="m", dataset_name="mcorec"),
    *(clip_of(key, 15, transcript="bin now", speaker="mn"[n], split="val") for n, key in enumerate("vw")),
    *(clip_of(key, 15 + n, transcript="set blue", speaker="mn"[n % 2], split="test") for n, key in enumerate("xyz")),
]
WORDS = [Word("a", "bin", 0.1, 0.3), Word("a", "blue", 0.3, 0.5)]
NOISY = "talker_0"
SYSTEM = AvsrParams(max_steps=1, conditions=("clean", NOISY), voices=1)
NO_JOINT = PhaseParams(joint=0)


@dataclass(frozen=True)
class Place:
    """Media and features, and an item store that runs share."""

    folder: Path

    def run(self, p: AvsrParams, **options: Any) -> Study:
        found = run_study(self.folder, self.folder, self.folder / "mixed", p, device="cpu", **options)
        assert found is not None
        return found


def place(folder: Path, clips: list[SpeechClip] = CLIPS) -> Place:
    write_clips(folder, clips, WORDS, hiss)
    write_muse(folder, clips)
    return Place(folder)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store")


@pytest.fixture(autouse=True)
def _shared(store: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("AVS_STORE", str(store))
    with one_thread():
        yield


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return place(tmp_path_factory.mktemp("speech"))


@pytest.fixture(scope="module")
def whole(there: Place, store: Path) -> Study:
    with pytest.MonkeyPatch.context() as patch, one_thread():
        patch.setenv("AVS_STORE", str(store))
        return there.run(SYSTEM, curves=there.folder / "curves", voices=there.folder / "voices")


def trained(study: Study) -> set[str]:
    """The phases that were not there yet."""
    return {name for name, fitted in study.fitted.items() if fitted.seconds is not None}


def same(one: nn.Module | None, other: nn.Module | None) -> bool:
    assert one is not None
    assert other is not None
    states = one.state_dict(), other.state_dict()
    return all(torch.equal(value, states[1][name]) for name, value in states[0].items())


def test_all_phases_are_trained_and_all_models_heard(whole: Study, there: Place) -> None:
    assert trained(whole) == {"seanet", "audio", "both", "joint"} == set(whole.fitted)
    assert all(fitted.steps == 1 for fitted in whole.fitted.values())
    metrics = whole.metrics()
    assert (metrics["clips"], metrics["words"]) == (3, 6)
    assert set(metrics["wer"]) == {*MODELS, *SEPARATE.values(), *CONTROLS}
    for rows in metrics["wer"].values():
        assert set(rows) == {"clean", NOISY}
        assert all(set(row) == {"wer", "low", "high"} for row in rows.values())
    assert {"av-audio", "audio_seanet-audio_separate", "av_seanet-av_wrong"} <= set(metrics["contrasts"][NOISY])
    for measure in ("si_sdr", "stoi"):
        assert set(metrics[measure]) == {NOISY}
        kinds = {"mixture", "seanet", "improvement", "wrong_lips", "separate"}
        assert set(metrics[measure][NOISY]) == kinds
        assert all(set(row) == {"mean", "low", "high"} for row in metrics[measure][NOISY].values())
    assert -1 < metrics["si_sdr"][NOISY]["mixture"]["mean"] < 1  # one voice at 0 dB
    assert len(whole.rows) == 9 * 2 * 3
    assert whole.notes[0] == "words compared as plain (3 clips)"
    assert {path.name for path in (there.folder / "curves").iterdir()} == set(whole.fitted)
    assert sorted(path.name for path in (there.folder / "voices").rglob("*.*")) != []


def test_nothing_is_trained_twice_and_a_second_run_is_the_same(whole: Study, there: Place) -> None:
    again = there.run(SYSTEM)
    assert trained(again) == set()
    assert again.rows == whole.rows
    assert json.dumps(again.metrics()) == json.dumps(whole.metrics())
    assert same(again.recognizer, whole.recognizer)


def test_without_seanet_the_recognizer_is_shared_and_there_are_three_models(whole: Study, there: Place) -> None:
    found = there.run(replace(SYSTEM, use_seanet=False))
    assert trained(found) == set()
    assert set(found.fitted) == {"audio", "both"}
    assert found.seanet is None
    assert set(found.metrics()["wer"]) == set(PLAIN)
    assert found.separated == {}
    plain = [row for row in whole.rows if row.model in PLAIN]
    assert sorted(map(str, found.rows)) == sorted(map(str, plain))


def test_frozen_parts_keep_their_weights_and_the_others_learn(whole: Study, there: Place) -> None:
    before = there.run(replace(SYSTEM, epochs=NO_JOINT))
    seanet, recognizer = (there.run(replace(SYSTEM, **{f"freeze_{name}": True})) for name in ("seanet", "avhubert"))
    assert trained(before) == set()
    assert trained(seanet) == trained(recognizer) == {"joint"}
    assert same(seanet.seanet, before.seanet)
    assert not same(seanet.recognizer, before.recognizer)
    assert same(recognizer.recognizer, before.recognizer)
    assert not same(recognizer.seanet, before.seanet)
    assert not same(whole.seanet, before.seanet)
    assert not same(whole.recognizer, before.recognizer)


def test_phases_by_themselves_are_those_of_the_study(whole: Study, there: Place, tmp_path: Path) -> None:
    """What `train_apart` has trained is not trained by `run_study`, nor the other way round."""
    store = Path(tmp_path / "other")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AVS_STORE", str(store))
        train_apart(there.folder, there.folder, replace(SYSTEM, use_seanet=False))
        found = there.run(SYSTEM)
    assert trained(found) == {"seanet", "joint"}
    assert found.rows == whole.rows


def test_the_scope_decides_about_seanet_alone(whole: Study, there: Place) -> None:
    """No clip of `test` is MCoRec's: SEANet learns from the one in training, and is judged on none."""
    found = there.run(replace(SYSTEM, seanet_scope="mcorec", batch_clips=1))
    assert {"seanet", "joint"} <= trained(found)
    assert found.separated == {}
    texts = {
        name: [row.hypothesis for row in found.rows if row.model == name] for name in ("av_seanet", "av_wrong", "av")
    }
    assert texts["av_seanet"] == texts["av_wrong"]
    shared = there.run(replace(SYSTEM, seanet_scope="mcorec"))
    assert trained(shared) == {"seanet", "joint"}


def test_weights_of_the_lowest_wer_are_chosen_on_val(there: Place) -> None:
    found = there.run(replace(SYSTEM, choose="wer", eval_splits=("val",)))
    assert trained(found) == {"joint"}
    assert found.fitted["joint"].score is not None
    assert any("chosen by WER on val" in note for note in found.notes)
    assert not any("chosen" in note for note in there.run(replace(SYSTEM, choose="wer")).notes)


def test_another_way_to_search_or_other_clips_of_val_may_choose_others(there: Place, tmp_path: Path) -> None:
    """Weights of a choice are kept under all that has made it; where nothing is chosen, evaluation decides nothing."""
    chosen = replace(SYSTEM, choose="wer")
    there.run(chosen)
    assert trained(there.run(chosen)) == set()
    greedy = EvaluationParams(beam=1)
    assert trained(there.run(replace(chosen, evaluation=greedy))) == {"joint"}
    assert trained(there.run(replace(SYSTEM, evaluation=greedy))) == set()
    others = [replace(clip, transcript="set now") if clip.key == "v" else clip for clip in CLIPS]
    assert trained(place(tmp_path, others).run(chosen)) == {"joint"}


def test_networks_that_no_phase_trains_before_are_on_the_device_too(there: Place) -> None:
    """`meta` stands for a GPU: a checkpoint's network is heard beside one that was trained there."""
    accelerator = SimpleNamespace(device=torch.device("meta"), is_main_process=True, num_processes=1)
    p = replace(SYSTEM, seanet_checkpoint=str(there.folder / "seanet.safetensors"), epochs=PhaseParams(audio=0, both=0))
    write_network("seanet", SEANet(N=8, L=40, B=4, H=4, K=10, R=1), Path(p.seanet_checkpoint or ""))
    trainer = Trainer(there.folder, there.folder, p, None, accelerator)  # type: ignore[arg-type]
    trainer.apart()
    assert {value.device.type for value in trainer.system.parameters()} == {"meta"}


def test_words_of_frames_have_a_head_only_where_it_learns(there: Place) -> None:
    heads = [
        Trainer(there.folder, there.folder, replace(SYSTEM, frame_loss=loss), None, launch.accelerator("cpu")).system
        for loss in (0.0, 1.0)
    ]
    assert [system.frame_head is None for system in heads] == [True, False]


def test_a_published_preset_goes_on_from_checkpoints(there: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a size of its own: the joint phase is the only one."""
    small = replace(recipes._PRESETS["mcorec"], encoder=SMALL)
    monkeypatch.setitem(recipes._PRESETS, "mcorec", small)
    network = filled(CtcAttention(SMALL, ESPNET))
    words = ("bin", "blue", "set", "now", *(f"x{n}" for n in range(33)))
    network.tokenizer = Tokenizer(
        ("<blank>", "<unk>", *(f"\N{LOWER ONE EIGHTH BLOCK}{word}" for word in words), "<eos>"),
        special=("<blank>", "<unk>", "<eos>"),
        whole=True,
    )
    write_network("avhubert", network, there.folder / "net.safetensors")
    given = {
        "checkpoint": str(there.folder / "net.safetensors"),
        "use_seanet": False,
        "mixture": (),
        "interferers": (0,),
    }
    found = there.run(AvsrParams(preset="mcorec", max_steps=1, conditions=("clean",), **given))  # type: ignore[arg-type]
    assert set(found.fitted) == {"joint"}
    assert not same(found.recognizer, network)
    assert set(found.metrics()["wer"]) == set(PLAIN)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seanet_scope": "mcorec"}, r"avsr\.seanet_scope \(mcorec\): no training clip is of it, but of grid"),
        ({"eval_splits": ("dev",)}, r"split dev: no clip \(splits there: lone, test, train"),
        ({"choose": "wer"}, r"split val: no clip"),
        ({"conditions": ("talker_0_unseen",)}, "talker_0_unseen: 2 of 2 clips"),
        ({"conditions": ("noise_0",)}, r"no folder of noise \(set avsr\.heard_noise\)"),
        ({"noise_folder": "nowhere"}, r"avsr\.noise_folder \(nowhere\): is no folder"),
        ({"mixture": ("lrs2:1",)}, r"avsr\.mixture: no training clip of lrs2"),
        ({"eval_splits": ("lone",)}, "split lone: only l goes through SEANet"),
    ],
)
def test_what_does_not_fit_is_told_before_training(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    clips = [clip for clip in CLIPS if clip.key in "abxy"]
    few = place(tmp_path, [*clips, clip_of("l", 15, transcript="bin", split="lone")])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AVS_STORE", str(tmp_path / "store"))
        with pytest.raises(InputError, match=message):
            few.run(replace(SYSTEM, **changes))
        with pytest.raises(InputError, match=message):  # as workers do, which evaluate nothing
            train_apart(few.folder, few.folder, replace(SYSTEM, **changes))
    assert not (tmp_path / "store").exists()


def test_no_training_clips(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="none of 3 clips is of split train"):
        place(tmp_path, [clip for clip in CLIPS if clip.split == "test"]).run(SYSTEM)


def test_features_are_asked_for_before_training_where_only_evaluation_needs_them(tmp_path: Path) -> None:
    place(tmp_path)
    write_muse(tmp_path, [clip for clip in CLIPS if clip.split == "train"])
    with pytest.raises(InputError, match="MuSE cache miss: 3 of 8 clips, first x"):
        Place(tmp_path).run(SYSTEM)
