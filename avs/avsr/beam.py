"""Beam search: fairseq's for an attention decoder alone, and ESPnet's, in which CTC has a say.

Both hold K beginnings of each of B clips in one batch; a beginning that is dead has the score -inf.
"""

from __future__ import annotations

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
    limit = torch.tensor(limits, device=memory.device)[:, None, None]
    past = decoder.start(memory, padding_mask)
    tokens, score = _beginnings(len(limits), beam, FAIRSEQ_END, memory.device)
    for step in range(max(limits) + 1):
        said = _allowed(decoder.step(tokens[..., -1], past).float().log_softmax(dim=-1), step, limit)
        total = (score[..., None] + said).flatten(1)
        best, place = total.topk(min(2 * beam, total.shape[1]), dim=1)
        origin, token = place // said.shape[-1], place % said.shape[-1]
        ends = token == FAIRSEQ_END
        for clip, at in (ends & (best > -torch.inf))[:, :beam].nonzero().tolist():
            if len(done[clip]) < beam:
                length = (step + 1) ** length_penalty
                done[clip].append(Hypothesis(_text(tokens[clip, origin[clip, at]]), float(best[clip, at]) / length))
        if all(len(found) == beam or step >= most for found, most in zip(done, limits, strict=True)):
            break
        # the best that go on, in their order
        kept = (ends * best.shape[1] + torch.arange(best.shape[1], device=ends.device)).topk(beam, largest=False)[1]
        origin = origin.gather(1, kept)
        score = best.masked_fill(ends, -torch.inf).gather(1, kept)
        tokens = _continued(tokens, origin, token.gather(1, kept))
        past.reorder(origin)
    return _sorted(done, beam)


def _allowed(said: Tensor, step: int, limit: Tensor) -> Tensor:
    """Log-probabilities [B,K,V] without what may not be said: padding, no token at all, more tokens than the limit."""
    tokens = torch.arange(said.shape[-1], device=said.device)
    said = said.masked_fill(tokens == FAIRSEQ_PAD, -torch.inf)
    if step == 0:
        said = said.masked_fill(tokens == FAIRSEQ_END, -torch.inf)
    return said.masked_fill((limit <= step) & (tokens != FAIRSEQ_END), -torch.inf)


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
    tokens, score = _beginnings(len(lengths), beam, end, memory.device)
    for step in range(max(lengths)):
        said = decoder.step(tokens[..., -1], past).float().log_softmax(dim=-1).double()
        likely, gains = _candidates(said, heard, count, ctc_weight)
        score, place = (score[..., None] + gains).flatten(1).topk(beam, dim=1)
        origin, choice = place // (count + 1), place % (count + 1)
        ended, choice = choice == count, choice.clamp(max=count - 1)
        token = likely[torch.arange(len(origin), device=origin.device)[:, None], origin, choice]
        tokens = _continued(tokens, origin, token)
        _collect(done, open_, tokens, score, ended, lengths, step)
        score = score.masked_fill(ended | ~torch.tensor(open_, device=ended.device)[:, None], -torch.inf)
        if not bool((score > -torch.inf).any()):
            break
        past.reorder(origin)
        heard.advance(origin, choice)
    return _sorted(done, beam)


def _candidates(said: Tensor, heard: PrefixScorer, count: int, ctc_weight: float) -> tuple[Tensor, Tensor]:
    """The `count` tokens that the decoder likes best [B,K,count], and what each and, last, the end add to the score."""
    end = said.shape[-1] - 1
    liked, likely = said.topk(count, dim=-1)
    by_ctc, ends_by_ctc = heard.score(likely)
    going = (1 - ctc_weight) * liked + _weighed(ctc_weight, by_ctc)
    going = going.masked_fill((likely == end) | (likely == BLANK), -torch.inf)
    ending = (1 - ctc_weight) * said[..., end] + _weighed(ctc_weight, ends_by_ctc)
    return likely, torch.cat([going, ending[..., None]], dim=-1)


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
            said = tokens[clip, at, :-1] if bool(ended[clip, at]) else tokens[clip, at]
            done[clip].append(Hypothesis(_text(said), float(score[clip, at])))
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
    """A weight of 0 takes nothing from what CTC holds impossible; dead beginnings have no number."""
    return weight * by_ctc.nan_to_num(nan=-torch.inf, neginf=-torch.inf) if weight else torch.zeros_like(by_ctc)


def _beginnings(clips: int, beam: int, start: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Tokens [B,K,1], all the start, and scores float64 [B,K], of which only the first is alive."""
    score = torch.full((clips, beam), -torch.inf, dtype=torch.float64, device=device)
    score[:, 0] = 0
    return torch.full((clips, beam, 1), start, device=device), score


def _text(tokens: Tensor) -> tuple[int, ...]:
    """Tokens without the start."""
    return tuple(tokens[1:].tolist())


def _sorted(done: list[list[Hypothesis]], beam: int) -> list[list[Hypothesis]]:
    return [sorted(found, key=lambda one: -one.score)[:beam] for found in done]


def _continued(tokens: Tensor, origin: Tensor, token: Tensor) -> Tensor:
    before = tokens.gather(1, origin[..., None].expand(-1, -1, tokens.shape[2]))
    return torch.cat([before, token[..., None]], dim=2)


def _check_beam(beam: int, limits: list[int]) -> None:
    if beam < 1:
        raise InputError(f"beam ({beam}) must be >= 1")
    if not limits or min(limits) < 1:
        raise InputError(f"limits of a search ({limits}) must be at least one, each >= 1")
