"""Beam search: fairseq's for an attention decoder alone, and ESPnet's, in which CTC has a say.

Both hold K beginnings of each of B clips in one batch; a beginning that is dead has the score -inf.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from avs.avsr.ctc import BLANK, PrefixScorer
from avs.avsr.decoders import Decoder
from avs.core.errors import InputError

FAIRSEQ_PAD, FAIRSEQ_END = 1, 2


@dataclass(frozen=True)
class Hypothesis:
    """Tokens without start and end, and the score by which hypotheses of one clip compare."""

    tokens: tuple[int, ...]
    score: float


@torch.inference_mode()
def search_attention(
    decoder: Decoder,
    memory: Tensor,
    padding_mask: Tensor | None,
    limits: list[int],
    *,
    beam: int = 50,
    length_penalty: float = 1.0,
) -> list[list[Hypothesis]]:
    """As fairseq's generator: up to `beam` hypotheses a clip, the best first.

    memory: [B,T,width]; limits: most tokens of each clip (>= 1), after which the end is forced. A hypothesis ends when
    its end is among the best `beam` of all continuations; the score is its log-probability, divided by its length
    (the end counts) to the power of `length_penalty`. At least one token is said.
    """
    _check_beam(beam, limits)
    done: list[list[Hypothesis]] = [[] for _ in limits]
    limit = torch.tensor(limits, device=memory.device)[:, None]
    past = decoder.start(memory, padding_mask)
    tokens = torch.full((len(limits), beam, 1), FAIRSEQ_END, device=memory.device)
    score = _one_alive(len(limits), beam, memory)
    for step in range(max(limits) + 1):
        said = decoder.step(tokens[..., -1], past).float().log_softmax(dim=-1)
        said[..., FAIRSEQ_PAD] = -torch.inf
        end = torch.arange(said.shape[-1], device=said.device) == FAIRSEQ_END
        forced = (limit <= step)[..., None]
        said = said.masked_fill(forced & ~end, -torch.inf)
        if step == 0:
            said = said.masked_fill(end, -torch.inf)
        total = (score[..., None] + said).flatten(1)
        best, place = total.topk(min(2 * beam, total.shape[1]), dim=1)
        origin, token = place // said.shape[-1], place % said.shape[-1]
        ends = token == FAIRSEQ_END
        for clip, at in (ends & (best > -torch.inf))[:, :beam].nonzero().tolist():
            if len(done[clip]) < beam:
                words = tokens[clip, origin[clip, at], 1:].tolist()
                done[clip].append(Hypothesis(tuple(words), float(best[clip, at]) / (step + 1) ** length_penalty))
        if all(len(found) == beam or step >= most for found, most in zip(done, limits, strict=True)):
            break
        # the best that go on, in their order
        kept = (ends * best.shape[1] + torch.arange(best.shape[1], device=ends.device)).topk(beam, largest=False)[1]
        origin, token = origin.gather(1, kept), token.gather(1, kept)
        score = best.masked_fill(ends, -torch.inf).gather(1, kept)
        tokens = _continued(tokens, origin, token)
        past.reorder(origin)
    return [sorted(found, key=lambda one: -one.score) for found in done]


@torch.inference_mode()
def search_joint(
    decoder: Decoder,
    memory: Tensor,
    padding_mask: Tensor | None,
    frames: Tensor,
    lengths: list[int],
    *,
    beam: int = 3,
    ctc_weight: float = 0.1,
) -> list[list[Hypothesis]]:
    """As ESPnet's search with CTC: up to `beam` hypotheses a clip, the best first.

    memory: what the decoder attends to, [B,T,width]; frames: CTC's logits [B,T,V]; lengths: frames of each clip, which
    is also the most tokens of it. The score is (1 - w) times the decoder's log-probability plus w times CTC's of the
    text so far. Only the 1.5 `beam` tokens that the decoder likes best go on. The search ends where hypotheses become
    hopeless as they grow: for three lengths in a row none ended within log-probability 10 of the best.
    """
    _check_beam(beam, lengths)
    if not 0 <= ctc_weight <= 1:
        raise InputError(f"ctc_weight ({ctc_weight:g}) must be in [0, 1]")
    end = decoder.config.vocabulary - 1
    count = min(max(beam, int(1.5 * beam)), end)
    done: list[list[Hypothesis]] = [[] for _ in lengths]
    open_ = [True] * len(lengths)
    past, heard = decoder.start(memory, padding_mask), PrefixScorer(frames, torch.tensor(lengths), beam)
    tokens = torch.full((len(lengths), beam, 1), end, device=memory.device)
    score = _one_alive(len(lengths), beam, memory).double()
    for step in range(max(lengths)):
        said = decoder.step(tokens[..., -1], past).float().log_softmax(dim=-1).double()
        liked, likely = said.topk(count, dim=-1)
        by_ctc, ends_by_ctc = heard.score(likely)
        useless = (likely == end) | (likely == BLANK)
        going = (1 - ctc_weight) * liked + _weighed(ctc_weight, by_ctc)
        ending = (1 - ctc_weight) * said[..., end] + _weighed(ctc_weight, ends_by_ctc)
        both = torch.cat([going.masked_fill(useless, -torch.inf), ending[..., None]], dim=-1)
        score, place = (score[..., None] + both).flatten(1).topk(beam, dim=1)
        origin, choice = place // (count + 1), place % (count + 1)
        ended = choice == count
        choice = choice.clamp(max=count - 1)
        token = likely[torch.arange(len(origin), device=origin.device)[:, None], origin, choice]
        tokens = _continued(tokens, origin, token)
        _collect(done, open_, tokens, score, ended, lengths, step)
        dead = ended | ~torch.tensor(open_, device=ended.device)[:, None]
        score = score.masked_fill(dead, -torch.inf)
        if not bool((score > -torch.inf).any()):
            break
        past.reorder(origin)
        heard.advance(origin, choice)
    return [sorted(found, key=lambda one: -one.score)[:beam] for found in done]


def _collect(
    done: list[list[Hypothesis]],
    open_: list[bool],
    tokens: Tensor,
    score: Tensor,
    ended: Tensor,
    lengths: list[int],
    step: int,
) -> None:
    """Take up what has ended, and what runs out of frames; close the clips that need no more."""
    for clip in (clip for clip, is_open in enumerate(open_) if is_open):
        last = step == lengths[clip] - 1
        for at in ((ended[clip] | last) & (score[clip] > -torch.inf)).nonzero()[:, 0].tolist():
            words = tokens[clip, at, 1 : None if not bool(ended[clip, at]) else -1].tolist()
            done[clip].append(Hypothesis(tuple(words), float(score[clip, at])))
        open_[clip] = not last and not _hopeless(done[clip], step)


def _hopeless(found: list[Hypothesis], step: int) -> bool:
    if not found:
        return False
    best = max(one.score for one in found)
    for length in range(step - 2, step + 1):  # ESPnet counts start and end
        same = [one.score for one in found if len(one.tokens) + 2 == length]
        if not same or max(same) - best >= -10:
            return False
    return True


def _weighed(weight: float, by_ctc: Tensor) -> Tensor:
    return weight * by_ctc.nan_to_num(nan=-math.inf, neginf=-math.inf) if weight else torch.zeros_like(by_ctc)


def _one_alive(clips: int, beam: int, like: Tensor) -> Tensor:
    score = torch.full((clips, beam), -torch.inf, device=like.device)
    score[:, 0] = 0
    return score


def _continued(tokens: Tensor, origin: Tensor, token: Tensor) -> Tensor:
    before = tokens.gather(1, origin[..., None].expand(-1, -1, tokens.shape[2]))
    return torch.cat([before, token[..., None]], dim=2)


def _check_beam(beam: int, limits: list[int]) -> None:
    if beam < 1:
        raise InputError(f"beam ({beam}) must be >= 1")
    if not limits or min(limits) < 1:
        raise InputError(f"limits of a search ({limits}) must be at least one, each >= 1")
