"""MuSE's front-end: parity with the published network, its names, and what a chunk may not change."""

import csv
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from golden_fill import fill_array, tokens, wave

from avs.core.errors import InputError
from avs.lips.features import PREPROCESSINGS, Extractor
from avs.lips.visual_frontend import VisualFrontend, load_visual_frontend, untrained_visual_frontend

GOLDEN = Path(__file__).parent / "golden"
EXPECTED = np.load(GOLDEN / "muse_visual_frontend.npz")
TOLERANCE = 1e-5  # values up to 3.6; float32 itself is 1e-6 from float64


def published_shapes() -> dict[str, tuple[int, ...]]:
    with open(GOLDEN / "muse_visual_frontend.keys.tsv", encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file, delimiter="\t")
        return {row["key"]: tuple(int(size) for size in row["shape"].split(",") if size) for row in rows}


def formula_weights() -> dict[str, torch.Tensor]:
    return {key: value.clone() for key, value in _formula().items()}


@cache
def _formula() -> dict[str, torch.Tensor]:
    return {key: torch.from_numpy(fill_array(key, shape)) for key, shape in published_shapes().items()}


@pytest.fixture(scope="module")
def network() -> VisualFrontend:
    network = VisualFrontend().eval()
    network.load_state_dict(formula_weights())
    return network


@pytest.fixture(scope="module")
def extractor(network: VisualFrontend) -> Extractor:
    return Extractor(network, "lips", "cpu")


def frames(length: int) -> torch.Tensor:
    return torch.from_numpy(wave(f"muse.frames.T{length}", (length, 1, 1, 112, 112), "dev", 1.5)).reshape(
        1, -1, 112, 112
    )


def mouths(length: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (length, 96, 96), dtype=np.uint8)


def test_names_and_shapes_are_the_published_ones() -> None:
    own = {key: tuple(value.shape) for key, value in VisualFrontend().state_dict().items()}
    assert own == published_shapes()
    assert len(own) == 106


@pytest.mark.parametrize("length", [7, 1])
@pytest.mark.parametrize("gradients", [False, True])
def test_it_equals_the_published_network(network: VisualFrontend, length: int, gradients: bool) -> None:
    with torch.set_grad_enabled(gradients):
        for form in (network, network.frozen()):
            found = form(frames(length))[0].detach().numpy()
            np.testing.assert_allclose(found, EXPECTED[f"out_T{length}"], atol=TOLERANCE, rtol=0)


def test_mouth_crops_are_prepared_as_published(extractor: Extractor) -> None:
    pictures = tokens("muse.u8.T3", (3, 1, 96, 96), 0, 256)[:, 0].astype(np.uint8)
    normal = (PREPROCESSINGS["lips"].prepare(torch.from_numpy(pictures) / 255) - 0.4161) / 0.1688
    np.testing.assert_allclose(normal[0, 0], EXPECTED["pre_u8_T3_row0"], atol=1e-6, rtol=0)
    np.testing.assert_allclose(normal[1, 57], EXPECTED["pre_u8_T3_row57"], atol=1e-6, rtol=0)
    np.testing.assert_allclose(extractor.features(pictures), EXPECTED["out_u8_T3"], atol=TOLERANCE, rtol=0)


def test_face_tracks_lose_their_margins() -> None:
    track = torch.arange(224 * 224.0).reshape(1, 224, 224)
    assert torch.equal(PREPROCESSINGS["face"].prepare(track), track[:, 56:168, 56:168])
    assert PREPROCESSINGS["face"].prepare(torch.rand(2, 96, 96)).shape == (2, 112, 112)


def test_chunks_change_nothing(extractor: Extractor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bitwise: in chunks or whole, alone or as part of a longer clip but for the two frames at a cut."""
    pictures = mouths(53)
    found = extractor.features(pictures)
    monkeypatch.setattr(extractor, "_chunk", 53)
    np.testing.assert_array_equal(found, extractor.features(pictures))
    monkeypatch.undo()
    longer = extractor.features(np.concatenate([pictures, mouths(30, 1)]))
    np.testing.assert_array_equal(longer[:51], found[:51])
    assert np.abs(longer[51:53] - found[51:53]).min(0).max() > 1e-3


@pytest.mark.parametrize("length", [0, 1, 24, 25, 26])
def test_any_length_has_as_many_features(extractor: Extractor, network: VisualFrontend, length: int) -> None:
    assert extractor.features(mouths(length)).shape == (length, 512)
    with torch.inference_mode():
        assert network(torch.zeros(2, length, 112, 112)).shape == (2, length, 512)


def test_long_clips_go_through_in_parts(network: VisualFrontend, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tolerance 1e-6: parts of another size are rounded otherwise."""
    clip = torch.randn(1, 21, 112, 112, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        whole = network(clip)
        monkeypatch.setattr("avs.lips.visual_frontend._CHUNK", 8)
        torch.testing.assert_close(network(clip), whole, atol=1e-6, rtol=0)


def test_it_can_be_trained(network: VisualFrontend) -> None:
    trained = VisualFrontend().train()
    trained(torch.randn(1, 3, 112, 112)).square().mean().backward()
    without = {name for name, value in trained.named_parameters() if value.grad is None}
    assert without == {"resnet.layer1.downsample.weight"}
    assert trained.frontend3D[1].running_mean.abs().max() > 0


def test_bfloat16_stays_close(network: VisualFrontend, extractor: Extractor) -> None:
    """By cosine; `auto` never takes it on a CPU."""
    a, b = extractor.features(mouths(5)), Extractor(network, "lips", "cpu", "bfloat16").features(mouths(5))
    assert (extractor.dtype, b.dtype) == ("float32", np.float32)
    assert (np.sum(a * b, 1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)).min() > 0.999


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_agrees_with_the_cpu(network: VisualFrontend, extractor: Extractor) -> None:
    exact = Extractor(network, "lips", "cuda", "float32").features(mouths(53))
    np.testing.assert_allclose(exact, extractor.features(mouths(53)), atol=1e-4, rtol=0)
    assert Extractor(network, "lips", "cuda").dtype == "bfloat16"


@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_published_file_is_taken_as_it_is(tmp_path: Path, prefix: str) -> None:
    torch.save({prefix + key: value for key, value in formula_weights().items()}, tmp_path / "visual_frontend.pt")
    network, report = load_visual_frontend(tmp_path / "visual_frontend.pt")
    assert len(report.matched) == 106
    assert not network.training
    assert all(torch.equal(value, network.state_dict()[key]) for key, value in formula_weights().items())


def test_files_that_fit_in_part_or_not_at_all_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    tensors = formula_weights()
    del tensors["resnet.layer3.conv1b.weight"]
    torch.save(tensors | {"decoder.weight": torch.zeros(2)}, path)
    with pytest.raises(InputError, match=r"resnet\.layer3\.conv1b\.weight.*decoder\.weight"):
        load_visual_frontend(path)
    torch.save({"weight": torch.zeros(3)}, path)
    with pytest.raises(InputError, match="0 of 106 tensors match"):
        load_visual_frontend(path)


def test_untrained_weights_repeat_and_leave_the_generator_alone() -> None:
    state = torch.random.get_rng_state()
    first, second = (untrained_visual_frontend() for _ in range(2))
    assert torch.equal(state, torch.random.get_rng_state())
    features = [Extractor(network, "lips", "cpu").features(mouths(2)) for network in (first, second)]
    np.testing.assert_array_equal(*features)
    assert 0.1 < features[0].std() < 10


def test_a_clip_without_frames_has_no_features(network: VisualFrontend) -> None:
    """With gradients and without."""
    assert network(torch.zeros(2, 0, 112, 112)).shape == (2, 0, 512)
    with torch.no_grad():
        assert network(torch.zeros(0, 3, 112, 112)).shape == (0, 3, 512)


def test_wrong_pictures_and_weights_are_named(network: VisualFrontend, extractor: Extractor) -> None:
    with pytest.raises(InputError, match=r"frames \(\[1, 3, 96, 96\]\)"):
        network(torch.zeros(1, 3, 96, 96))
    with pytest.raises(InputError, match=r"float32 \[3, 96, 96\]"):
        extractor.features(np.zeros((3, 96, 96), np.float32))
    broken = VisualFrontend().eval()
    broken.load_state_dict(formula_weights() | {"resnet.layer1.bn1a.running_var": torch.full((64,), torch.nan)})
    with pytest.raises(InputError, match="not finite"):
        Extractor(broken, "lips", "cpu").features(mouths(2))
