"""The networks that a training begins with: new ones, or those of checkpoints, which must have the preset's size."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch

from avs.avsr.avhubert import AVHubertConfig
from avs.avsr.avhubert_checkpoints import load_avhubert, weight_files
from avs.avsr.checkpoints import load_seanet
from avs.avsr.decoders import DecoderConfig
from avs.avsr.recipes import AvsrParams, Recipe
from avs.avsr.recognizers import CtcAttention, Recognizer
from avs.avsr.seanet import SEANet
from avs.avsr.separation import listen_by_frequency
from avs.avsr.text import Tokenizer, unigram_folder, word_tokenizer
from avs.core.errors import InputError
from avs.core.store import sha256_file


@dataclass(frozen=True)
class Start:
    """A recognizer with its tokenizer, SEANet if it takes part, and digests of their checkpoints, '' for none."""

    recognizer: Recognizer
    tokenizer: Tokenizer
    seanet: SEANet | None
    digests: tuple[str, str]  # of the recognizer's, of SEANet's


def start(p: AvsrParams, r: Recipe, transcripts: Iterable[str]) -> Start:
    """The networks as the parameters want them; `transcripts`, of training, give a new recognizer its words.

    Raises InputError for a checkpoint that is not there, does not fit or has another size than the preset.
    """
    digests = _digest("checkpoint", p.checkpoint), _digest("seanet_checkpoint", p.seanet_checkpoint)
    if p.checkpoint:
        recognizer, tokenizer = _loaded(Path(p.checkpoint), p, r)
    else:
        tokenizer = word_tokenizer(transcripts)
        recognizer = _new(r.encoder, tokenizer, p, r)
    recognizer.tokenizer = tokenizer
    if isinstance(recognizer, CtcAttention):
        recognizer.ctc_weight = r.ctc_weight
    return Start(recognizer, tokenizer, _seanet(p, r) if p.use_seanet else None, digests)


def _new(encoder: AVHubertConfig, tokenizer: Tokenizer, p: AvsrParams, r: Recipe) -> Recognizer:
    torch.manual_seed(p.seed)
    return CtcAttention(encoder, DecoderConfig(vocabulary=len(tokenizer.symbols), **r.decoder))


def _loaded(path: Path, p: AvsrParams, r: Recipe) -> tuple[Recognizer, Tokenizer]:
    own = unigram_folder(Path(p.tokenizer)) if p.tokenizer else None
    found = load_avhubert(path, own)
    encoder, tokenizer = (found.encoder, found.tokenizer) if isinstance(found, Recognizer) else (found, own)
    if (size := _size(encoder.config)) != (wanted := _size(r.encoder)):
        raise InputError(
            f"avsr.checkpoint ({path}) has width, layers, heads and inner {size}, but avsr.preset ({p.preset}) {wanted}"
        )
    if tokenizer is None:
        raise InputError(
            f"avsr.checkpoint ({path}) has no tokenizer: name a folder of *units.txt and *.model in avsr.tokenizer"
        )
    if isinstance(found, Recognizer):
        return found, tokenizer
    recognizer = _new(encoder.config, tokenizer, p, r)  # of pre-training: decoder and CTC are new
    recognizer.encoder.load_state_dict(encoder.state_dict())
    return recognizer, tokenizer


def _seanet(p: AvsrParams, r: Recipe) -> SEANet:
    if p.seanet_checkpoint:
        return load_seanet(p.seanet_checkpoint)
    torch.manual_seed(p.seed + 1)
    found = SEANet(**r.seanet)
    return listen_by_frequency(found) if r.from_scratch else found


def _size(config: AVHubertConfig) -> tuple[int, ...]:
    return config.width, config.layers, config.heads, config.inner


def _digest(name: str, path: str | None) -> str:
    """Of all files of a checkpoint."""
    if not path:
        return ""
    if not Path(path).exists():
        raise InputError(f"avsr.{name} ({path}) is not there")
    files = weight_files(Path(path)) if Path(path).is_dir() else [Path(path)]
    return " ".join(sha256_file(file) for file in files)
