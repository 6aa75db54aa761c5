"""The networks that a training begins with: new ones, or those of checkpoints, which must have the preset's size."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch

from avs.avsr.avhubert import AVHubertConfig, AVHubertEncoder
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
    """A recognizer with its tokenizer, SEANet if it takes part, and the digests of both files, '' for none."""

    recognizer: Recognizer
    tokenizer: Tokenizer
    seanet: SEANet | None
    digests: tuple[str, ...]


def start(p: AvsrParams, r: Recipe, transcripts: Iterable[str]) -> Start:
    """The networks as the parameters want them; `transcripts`, of training, give a new recognizer its words.

    Raises InputError for a checkpoint that is not there, does not fit or has another size than the preset.
    """
    digests = [_digest(Path(path)) if path else "" for path in (p.checkpoint, p.seanet_checkpoint)]
    recognizer, tokenizer = _loaded(p, r) if p.checkpoint else _new(p, r, transcripts)
    return Start(recognizer, tokenizer, _seanet(p, r) if p.use_seanet else None, tuple(digests))


def _new(p: AvsrParams, r: Recipe, transcripts: Iterable[str]) -> tuple[Recognizer, Tokenizer]:
    tokenizer = word_tokenizer(transcripts)
    torch.manual_seed(p.seed)
    found = CtcAttention(r.encoder, DecoderConfig(vocabulary=len(tokenizer.symbols), **r.decoder))
    return _settled(found, tokenizer, r)


def _loaded(p: AvsrParams, r: Recipe) -> tuple[Recognizer, Tokenizer]:
    path = Path(str(p.checkpoint))
    own = unigram_folder(Path(p.tokenizer)) if p.tokenizer else None
    found = load_avhubert(path, own)
    encoder = found if isinstance(found, AVHubertEncoder) else found.encoder
    if (size := _size(encoder.config)) != (wanted := _size(r.encoder)):
        raise InputError(f"{path}: has width, layers, heads and inner {size}, but avsr.preset {p.preset} {wanted}")
    if isinstance(found, AVHubertEncoder):
        if own is None:
            raise InputError(
                f"{path}: is an encoder alone: a new decoder needs avsr.tokenizer, a folder of units and model"
            )
        found = _with_decoder(found, own, p.seed)
    tokenizer = found.tokenizer or own
    if tokenizer is None:
        raise InputError(f"{path}: has no tokenizer: name a folder with *units.txt and *.model in avsr.tokenizer")
    return _settled(found, tokenizer, r)


def _with_decoder(encoder: AVHubertEncoder, tokenizer: Tokenizer, seed: int) -> Recognizer:
    """MCoRec's decoder and CTC, new, behind a pretrained encoder."""
    torch.manual_seed(seed)
    found = CtcAttention(encoder.config, DecoderConfig(vocabulary=len(tokenizer.symbols)))
    found.encoder.load_state_dict(encoder.state_dict())
    return found


def _settled(found: Recognizer, tokenizer: Tokenizer, r: Recipe) -> tuple[Recognizer, Tokenizer]:
    found.tokenizer = tokenizer
    if isinstance(found, CtcAttention):
        found.ctc_weight = r.ctc_weight
    return found, tokenizer


def _seanet(p: AvsrParams, r: Recipe) -> SEANet:
    if p.seanet_checkpoint:
        return load_seanet(p.seanet_checkpoint)
    torch.manual_seed(p.seed + 1)
    found = SEANet(**r.seanet)
    return listen_by_frequency(found) if r.from_scratch else found


def _size(config: AVHubertConfig) -> tuple[int, ...]:
    return config.width, config.layers, config.heads, config.inner


def _digest(path: Path) -> str:
    if not path.exists():
        raise InputError(f"checkpoint {path}: is not there")
    files = weight_files(path) if path.is_dir() else [path]
    return " ".join(sha256_file(file) for file in files)
