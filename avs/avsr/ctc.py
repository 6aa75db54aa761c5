"""CTC beside a decoder: how well the sound bears out a beginning of the text, and when each token was said."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

BLANK = 0


class PrefixScorer:
    """Log-probability that the text begins with what a beam holds, and goes on with a token, for B clips and K beams.

    Watanabe et al.: Hybrid CTC/attention architecture for end-to-end speech recognition (2017), algorithm 2. A path
    may at frame t end in the beginning's last token (`_token`) or in a blank after it (`_blank`). Their recursions
    over frames, `r[t] = p[t] (r[t-1] + in[t])`, are sums: `r[t] / P[t] = sum of in[s] / P[s-1]` for s up to t, P being
    the product of p. In float64, since these quotients span more than float32 holds.
    """

    def __init__(self, logits: Tensor, lengths: Tensor, beams: int) -> None:
        """logits: [B,T,V] of each frame; lengths: frames of each clip, int64 [B]."""
        self._frames = logits.double().log_softmax(dim=-1)
        self._last = lengths.to(logits.device) - 1
        self._beyond = torch.arange(logits.shape[1], device=logits.device) > self._last[:, None]
        blank = self._frames[..., BLANK].cumsum(dim=1)[:, None].expand(-1, beams, -1)
        self._token, self._blank = torch.full_like(blank, -torch.inf), blank
        self._score = blank.new_zeros(blank.shape[:2])
        self._latest: Tensor | None = None

    def score(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """What CTC adds to each beginning's log-probability: by each of `tokens` [B,K,P], and by the end [B,K]."""
        _, beams, count = tokens.shape
        own = self._frames.transpose(1, 2).gather(1, tokens.flatten(1)[..., None].expand(-1, -1, self._frames.shape[1]))
        own = own.unflatten(1, (beams, count))
        either = torch.logaddexp(self._token, self._blank)
        before = either[:, :, None].expand(-1, -1, count, -1)
        if self._latest is not None:  # the same token again needs a blank between
            again = (tokens == self._latest[..., None])[..., None]
            before = torch.where(again, self._blank[:, :, None], before)
        first = 0.0 if self._latest is None else -torch.inf
        arriving = _later(before, first)
        self._tokens, self._new_token = tokens, _recursion(own, arriving)
        blank = self._frames[:, None, None, :, BLANK]
        self._new_blank = _recursion(blank.expand_as(own), _later(self._new_token, -torch.inf))
        terms = (arriving + own).masked_fill(self._beyond[:, None, None], -torch.inf)
        self._new_score = terms.logsumexp(dim=-1)
        end = either.gather(2, self._last[:, None, None].expand(-1, beams, 1))[..., 0]
        return self._new_score - self._score[..., None], end - self._score

    def advance(self, origin: Tensor, choice: Tensor) -> None:
        """Let beam k of clip b go on from beam `origin[b,k]` with the token `choice[b,k]` of those last scored."""
        rows = torch.arange(len(origin), device=origin.device)[:, None]
        self._token, self._blank = self._new_token[rows, origin, choice], self._new_blank[rows, origin, choice]
        self._score, self._latest = self._new_score[rows, origin, choice], self._tokens[rows, origin, choice]


def _later(x: Tensor, first: float) -> Tensor:
    """x [...,T] a frame later."""
    return torch.cat([torch.full_like(x[..., :1], first), x[..., :-1]], dim=-1)


def _recursion(own: Tensor, arriving: Tensor) -> Tensor:
    """r[t] = own[t] + log(exp r[t-1] + exp arriving[t]), from r = -inf on."""
    total = own.cumsum(dim=-1)
    return total + torch.logcumsumexp(arriving - (total - own), dim=-1)


def align(logits: Tensor, tokens: Sequence[int]) -> list[tuple[int, int]]:
    """The frames [first, end) of each token on the likeliest path of CTC through `tokens`; logits: [T,V].

    Empty where the frames are too few for the tokens.
    """
    states = [BLANK, *(token for one in tokens for token in (one, BLANK))]
    scores = logits.double().log_softmax(dim=-1)[:, states].cpu().numpy()
    skip = np.array([i > 1 and i % 2 == 1 and states[i] != states[i - 2] for i in range(len(states))])
    best = np.full(len(states), -np.inf)
    best[:2] = scores[0, :2]
    back = np.zeros(scores.shape, dtype=int)
    for t in range(1, len(scores)):
        ways = np.stack([best, _shifted(best, 1), np.where(skip, _shifted(best, 2), -np.inf)])
        back[t] = ways.argmax(axis=0)
        best = ways.max(axis=0) + scores[t]
    state = len(states) - 1 - int(len(states) > 1 and best[-2] > best[-1])
    if not tokens or not np.isfinite(best[state]):
        return []
    path = [state]
    for t in range(len(scores) - 1, 0, -1):
        path.append(path[-1] - int(back[t, path[-1]]))
    places = np.array(path[::-1])
    found = [np.flatnonzero(places == 2 * i + 1) for i in range(len(tokens))]
    return [(int(frames[0]), int(frames[-1]) + 1) for frames in found]


def _shifted(x: np.ndarray, by: int) -> np.ndarray:
    return np.concatenate([np.full(by, -np.inf), x])[: len(x)]
