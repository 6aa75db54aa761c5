"""A clip of one's own: its eventness, anchors and plan, drawn."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from avs.audio.backend import Scale
from avs.audio.eventness import EventnessParams
from avs.core.errors import InputError
from avs.core.media import MediaError, read_media
from avs.core.probe import probe
from avs.core.store import write_array
from avs.localization.arms import Proposal, propose
from avs.report.figure import save_figure
from avs.sampling.anchors import AnchorParams, require_non_negative
from avs.sampling.plans import plan_anchors
from avs.sampling.tokens import BudgetParams, tokens
from avs.vision.cache import CacheParams
from avs.vision.encoder import load_encoder

MAX_SECONDS = 60
_A_LINE = 15  # seconds drawn beside each other
_ACCENT = "#dc2626"
_SHADES = ("#bfdbfe", "#60a5fa", "#1d4ed8")  # low, base, high


@dataclass(frozen=True)
class ClipPlan:
    """frames: T pictures uint8 [H,W,3]; resolutions: of each second, in pixels; flags: as in `read_media`."""

    name: str
    method: str
    scale: Scale
    std_threshold: float
    frames: list[np.ndarray]
    flags: tuple[str, ...]
    proposal: Proposal
    resolutions: list[int]
    budget: BudgetParams

    @property
    def tokens(self) -> list[int]:
        return [tokens(resolution, self.budget.patch_size) for resolution in self.resolutions]


def plan_clip(
    path: Path,
    *,
    k: int,
    eventness: EventnessParams,
    anchors: AnchorParams,
    budget: BudgetParams,
    seconds: int | None = None,
) -> ClipPlan:
    """Plan a video's first `seconds`, by default all whole ones up to a minute.

    Raises InputError for a video that cannot be used, and for k < 0 or seconds < 1.
    """
    require_non_negative(k=k)
    if seconds is not None and seconds < 1:
        raise InputError(f"seconds ({seconds}) must be >= 1")
    try:
        length = seconds or max(1, min(MAX_SECONDS, int(probe(path, MAX_SECONDS).end + 0.05)))
        media = read_media(path, length)
    except MediaError as error:
        raise InputError(f"{path}: {error}") from None
    backend = eventness.backend()
    scores = backend(media.audio[None].astype(np.float32) / 32768, num_seconds=length)[0]
    threshold = backend.scale.std_threshold if anchors.std_threshold == "auto" else anchors.std_threshold
    proposal = propose(scores, k=k, std_threshold=threshold, p=anchors, cap=budget.max_high)
    resolutions = plan_anchors(budget, length, proposal.anchors, max_high=proposal.max_high, scores=proposal.scores)
    frames, flags = media.frames, media.flags
    return ClipPlan(path.name, eventness.method, backend.scale, threshold, frames, flags, proposal, resolutions, budget)


def describe(plan: ClipPlan) -> str:
    """Scores, anchors, resolutions and token totals as text."""
    uniform = plan.budget.clip_tokens(len(plan.frames))
    lines = [
        f"{plan.name}: {len(plan.frames)} s{', '.join(['', *plan.flags])}",
        f"eventness ({plan.method}, {plan.scale.unit}): {' '.join(f'{score:.2f}' for score in plan.proposal.scores)}",
        _anchor_text(plan),
        f"resolutions: {' '.join(map(str, plan.resolutions))}",
        f"tokens: {sum(plan.tokens)} by this plan, {uniform} by uniform sampling",
    ]
    return "\n".join(lines)


def encode_plan(path: Path, plan: ClipPlan, p: CacheParams) -> str:
    """Write the features of the frames as planned, float32 [T, D]; say what that takes beside uniform sampling.

    Each of both is encoded in one pass, and a second time, which is timed: the first readies the processor.
    """
    encoder = load_encoder(p.encoder, weights=p.weights, dtype=p.dtype)

    def encoded(resolutions: list[int]) -> tuple[np.ndarray, float]:
        encoder.encode_mixed(plan.frames, resolutions)
        started = time.perf_counter()
        return encoder.encode_mixed(plan.frames, resolutions).numpy(), time.perf_counter() - started

    (features, planned), (_, uniform) = encoded(plan.resolutions), encoded([plan.budget.base_res] * len(plan.frames))
    write_array(path, features)
    where = f"{encoder.name} on {encoder.device.type} in {encoder.dtype}"
    return f"encoding ({where}): {planned:.2f} s by this plan, {uniform:.2f} s by uniform sampling"


def draw_plan(path: Path, plan: ClipPlan) -> None:
    """A PNG: the frames, each as large as it is seen; the scores with the anchors; the tokens of each second."""
    width = min(len(plan.frames), _A_LINE)
    starts = range(0, len(plan.frames), width)
    figure = Figure(figsize=(max(6.5, 1.3 * width + 1), 7.0 * len(starts) + 0.2), layout="constrained")
    lines = figure.subplots(3 * len(starts), 1, height_ratios=(1.5, 1.6, 1.6) * len(starts)).reshape(-1, 3)
    for start, (strip, curve, bars) in zip(starts, lines, strict=True):
        seconds = range(start, min(start + width, len(plan.frames)))
        _draw_frames(strip, plan, seconds)
        _draw_scores(curve, plan, seconds)
        _draw_tokens(bars, plan, seconds)
        for axes in (strip, curve, bars):
            axes.set_xlim(start, start + width)
    strip, curve, bars = lines[0]
    uniform = plan.budget.clip_tokens(len(plan.frames))
    strip.set_title("the frame of each second as it is seen, squashed to a square", fontsize=10)
    curve.set_title(_anchor_text(plan), fontsize=10)
    bars.set_title(f"{sum(plan.tokens)} tokens by this plan, {uniform} by uniform sampling (dashed)", fontsize=10)
    figure.suptitle(f"{plan.name}, eventness by {plan.method}", parse_math=False)
    save_figure(path, figure, dpi=150 if len(starts) == 1 else 80)


def _anchor_text(plan: ClipPlan) -> str:
    found = plan.proposal
    if found.anchors:
        return f"anchors, best first: {', '.join(f'{second} s' for second in found.anchors)}"
    std = float(np.std(np.asarray(found.scores, np.float32)))
    if found.fallback and std < plan.std_threshold:
        return f"no anchor: scores too flat (std {std:.2f}, below {plan.std_threshold:g}), so sampled uniformly"
    return "no anchor: shifted out of the clip, so sampled uniformly" if found.fallback else "no anchor asked for"


def _draw_frames(axes: Axes, plan: ClipPlan, seconds: range) -> None:
    for second in seconds:
        resolution = plan.resolutions[second]
        half = 0.48 * resolution / plan.budget.high_res
        seen = Image.fromarray(plan.frames[second]).resize((resolution, resolution), Image.Resampling.BICUBIC)
        axes.imshow(seen, extent=(second + 0.5 - half, second + 0.5 + half, 0, 2 * half), interpolation="antialiased")
        axes.text(second + 0.5, -0.03, f"{resolution} px", ha="center", va="top", fontsize=8)
    axes.set_ylim(-0.2, 1)
    axes.set_axis_off()


def _draw_scores(axes: Axes, plan: ClipPlan, seconds: range) -> None:
    scores = plan.proposal.scores
    shown = [scores[second] for second in seconds]
    axes.stairs(shown, [*seconds, seconds.stop], color="#334155", baseline=None, linewidth=1.5)
    axes.plot(np.array(seconds) + 0.5, shown, "o", color="#334155", markersize=4)
    for rank, second in enumerate(plan.proposal.anchors, 1):
        if second in seconds:
            axes.axvspan(second, second + 1, color=_ACCENT, alpha=0.12, linewidth=0)
            axes.plot(second + 0.5, scores[second], "v", color=_ACCENT, markersize=11)
            axes.annotate(str(rank), (second + 0.5, scores[second]), (0, 9), textcoords="offset points", ha="center")
    margin = 0.25 * (max(scores) - min(scores)) or 1.0
    axes.set(ylabel=f"eventness ({plan.scale.unit})", ylim=(min(scores) - margin, max(scores) + margin))
    axes.set_xticks(np.array(seconds) + 0.5, [""] * len(seconds))
    axes.spines[["top", "right"]].set_visible(False)


def _draw_tokens(axes: Axes, plan: ClipPlan, seconds: range) -> None:
    budget = plan.budget
    shade = dict(zip(budget.resolutions, _SHADES, strict=True))
    middles, heights = np.array(seconds) + 0.5, [plan.tokens[second] for second in seconds]
    bars = axes.bar(middles, heights, 0.9, color=[shade[plan.resolutions[second]] for second in seconds])
    axes.bar_label(bars, fontsize=8, padding=2)
    axes.axhline(tokens(budget.base_res, budget.patch_size), color="#334155", linestyle="--", linewidth=1)
    axes.set(ylabel="tokens", xlabel="second", ylim=(0, 1.15 * max(plan.tokens)))
    axes.set_xticks(middles, [str(second) for second in seconds])
    axes.spines[["top", "right"]].set_visible(False)
