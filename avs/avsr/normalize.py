"""Text as it is scored: MCoRec's published rules, or only small letters without punctuation."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from functools import cache
from typing import Literal

from avs.core.import_shims import mend_imports

Normalizer = Literal["auto", "mcorec", "plain"]

_WORD = re.compile(r"\w+(?:'\w+)*")

# Words that MCoRec's evaluation takes out on both sides (MCoRec/mcorec_baseline, commit 33f6f1c), matched whole, after
# numbers were rewritten, hence 000 and 999. Its published WER needs exactly these.
_DISFLUENCIES = """
    000 999 aaa aaaa aaaaa aaaahhm aaah aaahh aaahhh aaahhhmmm aah aahh aahhh aahm aahmm aahw ah ahh ahhh ahhhh
    ahhhhh ahhhhhhhhh ahhhhhhhhhh ahhhhhhhhhhh ahw eee eeee er ffff ha haa haaa haaaa haaaaa haaaaaa haaaaaaa
    haaaaaaaa haaaaaaaaa haaaaaaaaaa haaaaaaaaaaaaaaaaaaa haah haahaa haahaaa haahaahaa haahaha haahahaha haahuuuuu
    hah haha hahaa hahaaa hahaaaa hahaaaaa hahaaha hahah hahaha hahahaa hahahaaah hahahah hahahaha hahahahaahahha
    hahahahah hahahahaha hahahahahah hahahahahaha hahahahahahaha hahahahahahahaha hahahahahha hahahahha hahahahu
    hahahahuh hahahahuhu hahahha hahahhaa hahahoho hahahu hahahuh hahahuha hahha hahhaaha hahhah hahhaha hahhh
    hahhhh hahu hahuh hahuhahuh hahuhu hahuhuhu hai haisho hap haummm hehehe hh hhahaha hhh hhhh hhhhh hhhhhh
    hhhhhhh hm hmm hmmhmm hmmm hmmmm hmmmmm hmmmmmm hmmmmmmm hmmmmmmmm hoo hooo huh huhahihi huhh huhhh huhhhhh
    huhhhhhhh huhhu huhmmmm huhuhh huhuhu huhuhuh huhuhuha huhummm huhuu huhuuhhu huhuuu huu huuu huuuu huuuuu lll
    mchhh mhmm mmhmm mmm mmmhmmm mmmm mmmmm mmmmmm mmmmmmm nnn nnnnn nnnnnn oh ohahahahhu ohh ohhh ohhhh ohhhhh
    ohhhhhh ohhhhhhh ohhhhhhhh ohhhhhhhhh ohhhhhhhhhhh ohhhhhhhhhhhh ohhhhhhhhhhhhhh ohhhhhhhhhhhhhhhhh ohhn ohhp
    ohooo ohw onnnnnn oohh oohhh oohhoa ooo oooo ooooo oooooo ooooooooo oooooooooooooooooooooooooo ppppppp rrr
    shhhhh ss sshhh sshhhhh sss ssshh ssss sssss ssssss uh uhh uhhh uhhhh uhhhhh uhhhhhhh uhhhhhhhhhhhh uhhhhmm uhm
    uhmm um umm ummm ummmm ummmmm ummmmmmm ummmmmmmm ummmmmmmmm uuu uuuu whoa wow www wwww yah yay yea yeah yyy
    yyyyyyy yyyyyyyyyyyy
    """
DISFLUENCIES = frozenset(_DISFLUENCIES.split())


def normalizer(name: Normalizer, dataset_name: str) -> Callable[[str], str]:
    """What is done to references and hypotheses of a data set before they are compared.

    `mcorec` is what MCoRec's WER is defined by; `auto` is `mcorec` for the set of that name and `plain` for all others:
    LRS2, LRS3 and GRID are scored word by word as they are, and Whisper's rules would turn GRID's `o nine` into `09`.
    """
    return mcorec if name == "mcorec" or (name == "auto" and dataset_name == "mcorec") else plain


def plain(text: str) -> str:
    """Small letters and digits; apostrophes within words stay, all other signs are spaces."""
    text = unicodedata.normalize("NFKC", text).lower().replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")
    return " ".join(_WORD.findall(text))


def mcorec(text: str) -> str:
    """Whisper's rules for English (Radford et al. 2022, appendix C), then without DISFLUENCIES.

    As MCoRec has it, without Whisper's table of British spellings: `colour` and `color` are two words. Whisper's rules
    come first and take `oh` for a nought, so that it stays as 0 although it is on the list.
    """
    return " ".join(word for word in _whisper()(text).split() if word not in DISFLUENCIES)


@cache
def _whisper() -> Callable[[str], str]:
    mend_imports()
    from transformers.models.whisper.english_normalizer import EnglishTextNormalizer  # takes a second to import

    return EnglishTextNormalizer({})
