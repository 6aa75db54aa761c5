"""CTC: scores of beginnings and alignments, against all paths there are."""

from __future__ import annotations

import math
from collections import defaultdict
from itertools import groupby, product

import pytest
import torch

from avs.avsr.ctc import PrefixScorer, align

TOLERANCE = 1e-9  # float64
FRAMES, SYMBOLS = 5, 4


def logits(seed: int, clips: int = 1) -> torch.Tensor:
    return 2 * torch.randn(clips, FRAMES, SYMBOLS, generator=torch.Generator().manual_seed(seed)).double()


def texts(frames: torch.Tensor) -> dict[tuple[int, ...], float]:
    """The probability of each text: the sum over its paths."""
    said, found = frames.softmax(dim=-1), defaultdict(float)
    for path in product(range(SYMBOLS), repeat=len(frames)):
        text = tuple(token for token, _ in groupby(path) if token)
        found[text] += math.prod(float(said[t, token]) for t, token in enumerate(path))
    return found


def begins(found: dict[tuple[int, ...], float], prefix: tuple[int, ...]) -> float:
    return math.log(sum(p for text, p in found.items() if text[: len(prefix)] == prefix))


@pytest.mark.parametrize("length", [FRAMES, 3])
def test_scores_are_those_of_all_paths(length: int) -> None:
    """Also for a repeated token, and for a clip that is shorter than the batch."""
    frames = logits(0, clips=2)
    found = texts(frames[1, :length])
    scorer = PrefixScorer(frames, torch.tensor([FRAMES, length]), beams=2)
    prefixes: list[tuple[int, ...]] = [(), ()]
    every = torch.arange(1, SYMBOLS).expand(2, 2, -1)
    for origin, choice in [((0, 0), (0, 2)), ((1, 0), (2, 1)), ((0, 1), (0, 0))]:
        by_token, by_end = scorer.score(every)
        for beam, prefix in enumerate(prefixes):
            known = begins(found, prefix)
            for place, token in enumerate(range(1, SYMBOLS)):
                if any(text[: len(prefix) + 1] == (*prefix, token) for text in found):
                    expected = begins(found, (*prefix, token)) - known
                    assert float(by_token[1, beam, place]) == pytest.approx(expected, abs=TOLERANCE)
                else:
                    assert float(by_token[1, beam, place]) == -math.inf
            assert float(by_end[1, beam]) == pytest.approx(math.log(found[prefix]) - known, abs=TOLERANCE)
        scorer.advance(torch.tensor([origin] * 2), torch.tensor([choice] * 2))
        prefixes = [(*prefixes[before], place + 1) for before, place in zip(origin, choice, strict=True)]


def test_long_clips_keep_their_precision() -> None:
    """A sum of log-probabilities of thousands, whose differences matter."""
    frames = 20 * torch.randn(1, 2000, 30, generator=torch.Generator().manual_seed(1)).double()
    scorer = PrefixScorer(frames, torch.tensor([2000]), beams=1)
    said = frames[0].log_softmax(dim=-1)
    r_token, r_blank = torch.full((2000,), -torch.inf).double(), said[:, 0].cumsum(dim=0)
    scorer.score(torch.tensor([[[7]]]))
    scorer.advance(torch.tensor([[0]]), torch.tensor([[0]]))
    new = torch.full((2000, 2), -torch.inf).double()
    new[0, 0] = said[0, 7]
    for t in range(1, 2000):
        before = torch.logaddexp(r_token[t - 1], r_blank[t - 1])
        new[t, 0] = torch.logaddexp(new[t - 1, 0], before) + said[t, 7]
        new[t, 1] = torch.logaddexp(new[t - 1, 1], new[t - 1, 0]) + said[t, 0]
    assert torch.allclose(scorer._token[0, 0], new[:, 0], rtol=1e-12)
    assert torch.allclose(scorer._blank[0, 0, 1:], new[1:, 1], rtol=1e-12)


@pytest.mark.parametrize("tokens", [(1,), (1, 1), (2, 3, 1), (1, 1, 1), (3, 1, 2, 1, 3)])
def test_alignment_is_the_best_path(tokens: tuple[int, ...]) -> None:
    frames = logits(2)[0]
    said = frames.log_softmax(dim=-1)
    paths = [
        path
        for path in product(range(SYMBOLS), repeat=FRAMES)
        if tuple(token for token, _ in groupby(path) if token) == tokens
    ]
    best = max(paths, key=lambda path: float(said[range(FRAMES), path].sum()))
    spans, place = [], 0
    for token, run in groupby(best):
        length = len(list(run))
        spans += [(place, place + length)] if token else []
        place += length
    assert align(frames, tokens) == spans


def test_no_alignment_where_frames_are_too_few() -> None:
    assert align(logits(3)[0], (1, 1, 1, 1)) == []
    assert align(logits(3)[0], ()) == []
