import re
from pathlib import Path
from typing import get_args

import pytest
from test_lrs2 import corpus
from test_mcorec import session

from avs.core.errors import InputError
from avs.core.execute import ExecutionParams
from avs.core.speech import Word
from avs.lips.media import SpeechShards
from avs.lips.preprocess import LipsParams, preprocess_speech
from avs.speech import SpeechDataParams, SpeechName, SpeechSet, install_speech, open_speech
from avs.speech.demo import SpeechDemoParams
from avs.speech.lrs2 import Lrs2Params
from avs.speech.mcorec import MCoRecParams
from avs.speech.mixture import SETS, MixtureParams

INLINE = ExecutionParams(backend="inline")


def opened(folder: Path, *sets: str, evaluate: tuple[str, ...] = ()) -> SpeechSet:
    data = SpeechDataParams(
        demo=SpeechDemoParams(train=1, val=1, test=1, words=1),
        lrs2=Lrs2Params(folder=str(folder / "lrs2")),
        mcorec=MCoRecParams(folder=str(folder / "mcorec")),
        mixture=MixtureParams(sets=sets, evaluate=evaluate),
    )
    return open_speech("mixture", data)


@pytest.fixture
def both(tmp_path: Path) -> Path:
    corpus(tmp_path / "lrs2")
    session(tmp_path / "mcorec/train/session_00")
    session(tmp_path / "mcorec/dev/session_40")
    return tmp_path


def test_sets_come_together_and_are_decoded(both: Path) -> None:
    dataset = opened(both, "lrs2", "mcorec", "demo")
    clips, words, failed = install_speech(dataset, INLINE)
    assert (len(clips), failed) == (11, [])
    assert {(clip.key.split("_")[0], clip.dataset_name) for clip in clips} == {
        ("lrs2", "lrs2"),
        ("mcorec", "mcorec"),
        ("demo", "synthetic"),
    }
    assert Word("lrs2_pretrain_10_00001", "IT'S", 0.2, 0.5) in words
    rows, failed, _ = preprocess_speech(clips, words, dataset.folder(), both / "out", LipsParams(), INLINE)
    assert ([row.key for row in rows], failed) == ([clip.key for clip in clips], [])
    assert {key.split("_")[0] for key in SpeechShards(both / "out").words} == {"lrs2", "demo"}


def test_a_set_may_serve_for_training_alone(both: Path) -> None:
    def splits(*evaluate: str) -> set[tuple[str, str]]:
        clips, words, _ = install_speech(opened(both, "lrs2", "mcorec", evaluate=evaluate), INLINE)
        assert {word.clip for word in words} <= {clip.key for clip in clips}
        return {(clip.dataset_name, clip.split) for clip in clips}

    kept = {("lrs2", "train"), ("mcorec", "train"), ("mcorec", "val")}
    assert splits("mcorec") == kept
    assert splits() == splits("mcorec", "lrs2") == kept | {("lrs2", "val"), ("lrs2", "test")}


def test_links_lead_to_the_sets_and_are_made_again(both: Path) -> None:
    dataset = opened(both, "lrs2", "mcorec")
    dataset.prepare(INLINE)
    for name in ("lrs2", "mcorec"):
        link = dataset.folder() / name
        assert link.resolve() == (both / name).resolve()
        link.unlink()
    dataset.prepare(INLINE)
    dataset.prepare(INLINE)
    assert sorted(path.name for path in dataset.folder().iterdir()) == ["lrs2", "mcorec"]
    assert opened(both / "elsewhere", "lrs2", "mcorec").folder() != dataset.folder()


def test_a_missing_set_is_told_before_others_are_made(both: Path, tmp_path: Path) -> None:
    dataset = opened(tmp_path / "elsewhere", "demo", "lrs2")
    with pytest.raises(InputError, match=r"speech_data\.lrs2\.folder"):
        install_speech(dataset, INLINE)
    assert not list((tmp_path / "store").rglob("*.mp4"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sets": ()}, "sets ([]) must name at least one set"),
        ({"sets": ("lrs2", "lrs2")}, "each once"),
        ({"sets": ("mixture",)}, "sets ('mixture') must be of demo, grid, manifest, mcorec, lrs2, vox2, avyt"),
        ({"sets": ("lrs2",), "evaluate": ("mcorec",)}, "evaluate ('mcorec') must be of the sets (lrs2)"),
    ],
)
def test_odd_parameters_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        MixtureParams(**options)


def test_clips_of_one_name_are_told(tmp_path: Path) -> None:
    class Twice:
        def __getattr__(self, name: str) -> object:
            return getattr(opened(tmp_path, "demo"), name)

        def utterances(self) -> list:
            return opened(tmp_path, "demo").utterances() * 2

    with pytest.raises(InputError, match=r"clip 'demo_train0000_synthetic0' is there twice: demo/train0000"):
        install_speech(Twice(), INLINE)


def test_all_sets_but_itself_can_be_mixed() -> None:
    assert {*SETS, "mixture"} == set(get_args(SpeechName))
