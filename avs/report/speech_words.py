"""What the models and conditions of the speech study are, in a few words each, and their order."""

from __future__ import annotations

import re
from collections.abc import Iterable

MODELS = {
    "audio": "sound alone",
    "video": "lips alone",
    "av": "sound and lips",
    "audio_separate": "SEANet by itself, then sound alone",
    "av_separate": "SEANet by itself, then sound and lips",
    "audio_seanet": "SEANet, then sound alone",
    "av_seanet": "SEANet, then sound and lips",
    "audio_wrong": "SEANet with another clip's lips, then sound alone",
    "av_wrong": "SEANet with another clip's lips, then sound and lips",
}
_KINDS = {"snr": "babble", "noise": "noise", "talker": "another talker"}
_VOICES = {"same": "the speaker's own voice", "unseen": "an unseen talker", "synthetic": "a synthetic talker"}
_NAME = re.compile(r"(snr|noise|talker)_([+-]?\d+(?:\.\d+)?)(?:_(\w+))?")


def model_text(name: str) -> str:
    return MODELS.get(name, name)


def models_in_order(names: Iterable[str]) -> list[str]:
    """The known ones in their order, then the others by name."""
    there = set(names)
    return [name for name in MODELS if name in there] + sorted(there.difference(MODELS))


def condition_text(name: str) -> str:
    """`snr_-5`: babble, −5 dB."""
    return ", ".join(condition_lines(name))


def condition_lines(name: str) -> list[str]:
    """The same in parts."""
    found = _NAME.fullmatch(name)
    if not found:
        return [name]
    kind, level, voice = found.groups()
    what = _KINDS[kind] if voice is None else _VOICES.get(voice, f"{_KINDS[kind]} ({voice})")
    return [what, f"{float(level):g}\N{NO-BREAK SPACE}dB".replace("-", "−")]


def family(name: str) -> str:
    """Conditions of one family differ in their level only; clean sound is the highest level of babble."""
    found = _NAME.fullmatch(name)
    return f"{found[1]} {found[3] or ''}" if found else "snr " if name == "clean" else name


def conditions_in_order(names: Iterable[str]) -> list[str]:
    """Clean sound, then family by family, the easier levels first."""
    kinds = list(_KINDS)

    def place(name: str) -> tuple[int, str, float, str]:
        found = _NAME.fullmatch(name)
        if not found:
            return (-1 if name == "clean" else len(kinds), "", 0.0, name)
        return (kinds.index(found[1]), found[3] or "", -float(found[2]), name)

    return sorted(set(names), key=place)
