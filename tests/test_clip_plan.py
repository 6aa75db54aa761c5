import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from avs.audio.eventness import EventnessParams
from avs.core.errors import InputError
from avs.report.clip_plan import ClipPlan, describe, draw_plan, encode_plan, plan_clip
from avs.sampling.anchors import AnchorParams
from avs.sampling.tokens import BudgetParams
from avs.vision.cache import CacheParams
from avs.vision.encoder import load_encoder

BUDGET = BudgetParams(low_res=112, base_res=208, high_res=272)  # two seconds pay for one at high resolution


def planned(path: Path, **change) -> ClipPlan:
    options = {"k": 1, "eventness": EventnessParams(), "anchors": AnchorParams(), "budget": BUDGET} | change
    return plan_clip(path, **options)


def test_the_sounding_second_gets_the_high_resolution(tiny_videos: Path) -> None:
    plan = planned(tiny_videos / "v0.mp4")
    assert plan.proposal.anchors == [1]
    assert plan.resolutions == [208, 272, 112]
    assert sum(plan.tokens) == BUDGET.clip_tokens(3)
    said = describe(plan)
    assert "anchors, best first: 1 s" in said
    assert "tokens: 507 by this plan, 507 by uniform sampling" in said


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"k": 0}, "no anchor asked for"),
        ({"anchors": AnchorParams(std_threshold=99.0)}, "below 99), so sampled uniformly"),
        ({"anchors": AnchorParams(shift=5)}, "shifted out of the clip"),
    ],
)
def test_a_plan_without_anchors_says_why(tiny_videos: Path, change: dict, words: str) -> None:
    plan = planned(tiny_videos / "v0.mp4", **change)
    assert plan.resolutions == [208] * 3
    assert words in describe(plan)


def test_a_part_can_be_chosen(tiny_videos: Path) -> None:
    plan = planned(tiny_videos / "v0.mp4", seconds=2, eventness=EventnessParams(method="energy_delta"))
    assert (len(plan.frames), plan.proposal.anchors, plan.method) == (2, [1], "energy_delta")


def test_the_frames_are_encoded_as_planned(tiny_videos: Path, tmp_path: Path) -> None:
    """Tolerance 1e-4: rounding in batches of other sizes, on values up to 6."""
    plan = planned(tiny_videos / "v0.mp4")
    said = encode_plan(tmp_path / "features.npy", plan, CacheParams(weights="random"))
    assert re.fullmatch(
        r"encoding \(efficientnet_lite0 on \w+ in \w+\): [\d.]+ s by this plan, [\d.]+ s by uniform sampling", said
    )
    encoder = load_encoder("efficientnet_lite0", weights="random")
    expected = [encoder.encode(f[None], r)[0] for f, r in zip(plan.frames, plan.resolutions, strict=True)]
    np.testing.assert_allclose(np.load(tmp_path / "features.npy"), np.stack(expected), atol=1e-4)


def test_the_picture_shows_something_and_survives_odd_names(tiny_videos: Path, tmp_path: Path) -> None:
    (tiny_videos / "v0.mp4").rename(tiny_videos / "$x_動画.mp4")
    draw_plan(tmp_path / "plan.png", planned(tiny_videos / "$x_動画.mp4"))
    picture = np.asarray(Image.open(tmp_path / "plan.png"))
    assert picture.shape[1] > 900
    assert picture.std() > 10


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"k": -1}, r"k \(-1\) must be >= 0"),
        ({"seconds": 0}, r"seconds \(0\) must be >= 1"),
        ({"seconds": 9}, "ends at"),
    ],
)
def test_wrong_wishes_are_refused(tiny_videos: Path, change: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        planned(tiny_videos / "v0.mp4", **change)


def test_a_file_that_is_no_video_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"absent\.mp4: no such file"):
        planned(tmp_path / "absent.mp4")
