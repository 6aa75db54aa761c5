import pytest

from avs.report.speech_words import condition_text, conditions_in_order, family, models_in_order


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("clean", "clean"),
        ("snr_-5", "babble, −5 dB"),
        ("noise_2.5", "noise, 2.5 dB"),
        ("talker_0", "another talker, 0 dB"),
        ("talker_0_same", "the speaker's own voice, 0 dB"),
        ("talker_-10_choir", "another talker (choir), −10 dB"),
        ("<b>", "<b>"),
    ],
)
def test_conditions_have_words(name: str, words: str) -> None:
    assert condition_text(name) == words.replace(" dB", "\N{NO-BREAK SPACE}dB")


def test_conditions_go_from_easy_to_hard_kind_by_kind_and_models_as_known() -> None:
    names = ["odd", "talker_0_same", "talker_5", "talker_0", "snr_-5", "snr_5", "snr_0", "clean", "noise_0", "snr_10"]
    wanted = ["clean", "snr_10", "snr_5", "snr_0", "snr_-5", "noise_0", "talker_5", "talker_0", "talker_0_same", "odd"]
    assert conditions_in_order(names) == wanted
    assert [family(name) for name in ("clean", "snr_5", "snr_-5")] == ["snr "] * 3
    assert len({family(name) for name in ("snr_0", "noise_0", "talker_0", "talker_0_same", "odd")}) == 5
    assert models_in_order(["z", "av", "audio", "b"]) == ["audio", "av", "b", "z"]
