"""The frozen encoders: parity with published networks, the squash, and features that do not depend on company."""

import csv
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from golden_fill import fill_array, wave
from PIL import Image

from avs.core.checkpoint import read_tensors
from avs.core.errors import InputError
from avs.core.weights import digest
from avs.vision.efficientnet import EfficientNetLite0
from avs.vision.encoder import Encoder, load_encoder
from avs.vision.vit import OpenClipViT, TimmViT, clip_tower

GOLDEN = Path(__file__).parent / "golden"
SMALL = {"image_size": 224, "layers": 3, "width": 64, "head_width": 16, "mlp_ratio": 2.0, "patch_size": 16}


def small_clip(activation: str = "quick_gelu") -> OpenClipViT:
    config = {"embed_dim": 32, "quick_gelu": activation == "quick_gelu", "vision_cfg": SMALL}
    return OpenClipViT(config).eval()


def clip_weights(layout: str) -> dict[str, torch.Tensor]:
    """A state dict by formula, under the names of a published layout."""
    with open(GOLDEN / f"clip_vit_small.{layout}.keys.tsv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    return {row["key"]: torch.from_numpy(_filled(row)) for row in rows}


def _filled(row: dict[str, str]) -> np.ndarray:
    names = (row["fill_key"] or row["key"]).split(",")
    first, *rest = (int(size) for size in row["shape"].split(","))
    return np.concatenate([fill_array(name, (first // len(names), *rest)) for name in names])


def random_frames(count: int, height: int = 90, width: int = 120, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, height, width, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def efficientnet() -> Encoder:
    return load_encoder("efficientnet_lite0", weights="random", device="cpu")


@pytest.fixture(scope="module")
def clip() -> Encoder:
    network = small_clip()
    network.load(clip_weights("open_clip"))
    return Encoder("small", network, "formula", torch.device("cpu"), "float32")


@pytest.mark.parametrize("resolution", [112, 160, 224, 352])
@pytest.mark.parametrize("layout", ["open_clip", "transformers"])
@pytest.mark.parametrize("activation", ["quick_gelu", "gelu"])
def test_clip_equals_the_published_network(activation: str, layout: str, resolution: int) -> None:
    """Tolerance 2e-5: ten times the rounding of float32; antialiased positions would be off by up to 0.045.

    By the library's forward first, then by ours.
    """
    network = small_clip(activation)
    network.load(clip_weights(layout))
    images = torch.from_numpy(wave(f"clip.r{resolution}", (2, 3, resolution, resolution), "dev", 1.5))
    expected = np.load(GOLDEN / "clip_vit_small.npz")[f"{activation}_r{resolution}"]
    with torch.inference_mode():
        np.testing.assert_allclose(network(images), expected, atol=2e-5, rtol=0)
        network.cast(torch.float32)
        assert len(network.layers) == 3
        np.testing.assert_allclose(network(images), expected, atol=2e-5, rtol=0)


@pytest.mark.parametrize("resolution", [112, 224])
@pytest.mark.parametrize(
    ("name", "ours"),
    [("vit_tiny_patch16_224", 12), ("deit_tiny_distilled_patch16_224", 0), ("vit_wee_patch16_reg1_gap_256", 0)],
)
def test_timm_transformers_equal_timms_own_forward(name: str, ours: int, resolution: int) -> None:
    """Tolerance 1e-5: rounding. Those that are not plain run by timm's forward."""
    network = TimmViT(name).eval()
    images = torch.from_numpy(wave("timm", (2, 3, resolution, resolution), "dev", 1.5))
    with torch.inference_mode():
        expected = network(images)
        network.cast(torch.float32)
        assert len(network.layers) == ours
        torch.testing.assert_close(network(images), expected, atol=1e-5, rtol=0)


def test_towers_of_another_kind_run_by_the_librarys_forward() -> None:
    config = {"embed_dim": 32, "vision_cfg": SMALL | {"pool_type": "avg"}}
    encoder = Encoder("mean", OpenClipViT(config), "random", torch.device("cpu"), "float32")
    assert not encoder.network.layers
    frames = random_frames(2)
    separate = torch.cat([encoder.encode(frames[:1], 112), encoder.encode(frames[1:], 160)])
    torch.testing.assert_close(encoder.encode_mixed(frames, (112, 160)), separate, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ["efficientnet", "clip"])
def test_mixed_resolutions_at_once_equal_separate_calls(name: str, request: pytest.FixtureRequest) -> None:
    """Tolerance 1e-4: the rounding of products of other sizes, on values up to 6."""
    encoder: Encoder = request.getfixturevalue(name)
    frames, resolutions = random_frames(5), (160, 352, 224, 160, 352)
    mixed = encoder.encode_mixed(frames, resolutions)
    for frame, resolution, features in zip(frames, resolutions, mixed, strict=True):
        torch.testing.assert_close(features, encoder.encode(frame[None], resolution)[0], atol=1e-4, rtol=0)
    assert encoder.encode_mixed(frames[:0], ()).shape == (0, encoder.dim)
    with pytest.raises(InputError, match="4 resolutions"):
        encoder.encode_mixed(frames, resolutions[:4])


@pytest.mark.weights
@pytest.mark.parametrize("resolution", [160, 224, 352])
def test_efficientnet_equals_the_published_network(resolution: int) -> None:
    """Recorded from the package that publishes the weights; tolerance 2e-4 on values up to 6, for folding."""
    network = load_encoder("efficientnet_lite0", device="cpu").network
    images = torch.from_numpy(wave(f"efficientnet.r{resolution}", (2, 3, resolution, resolution)))
    with torch.inference_mode():
        last = network.feature_map(images)
        assert torch.equal(network(images), last.amax((2, 3)))
    expected = np.load(GOLDEN / "efficientnet_lite0.npz")
    np.testing.assert_allclose(last.amax((2, 3))[:, ::5], expected[f"max_r{resolution}"], atol=2e-4, rtol=0)
    np.testing.assert_allclose(last.mean((2, 3))[:, ::5], expected[f"mean_r{resolution}"], atol=2e-4, rtol=0)


@pytest.mark.parametrize("resolution", [160, 240])
def test_efficientnet_equals_timm_with_unfolded_batch_norms(resolution: int) -> None:
    """240 has a map of odd size before a stride, where SAME padding is even; tolerance 1e-5, rounding."""
    reference = load_timm_lite0()
    network = EfficientNetLite0().eval()
    network.load(published_names(reference))
    images = torch.from_numpy(wave("efficientnet.timm", (2, 3, resolution, resolution)))
    with torch.inference_mode():
        expected = reference(images)
        torch.testing.assert_close(network.feature_map(images), expected, atol=1e-5, rtol=0)
    assert expected.std() > 0.05


def load_timm_lite0() -> torch.nn.Module:
    from avs.core.import_shims import mend_imports

    mend_imports()
    import timm

    model = timm.create_model("tf_efficientnet_lite0", num_classes=0, global_pool="").eval()
    model.load_state_dict(
        {key: torch.from_numpy(fill_array(key, value.shape)) for key, value in model.state_dict().items()}
    )
    return model


def published_names(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """timm's state dict under the names of efficientnet-lite-pytorch."""
    renamed = {"conv_stem": "_conv_stem", "bn1": "_bn0", "conv_head": "_conv_head", "bn2": "_bn1"}
    first = {"conv_dw": "_depthwise_conv", "bn1": "_bn1", "conv_pw": "_project_conv", "bn2": "_bn2"}
    other = {"conv_pw": "_expand_conv", "bn1": "_bn0", "conv_dw": "_depthwise_conv", "bn2": "_bn1"}
    other |= {"conv_pwl": "_project_conv", "bn3": "_bn2"}
    for stage, blocks in enumerate(model.blocks):
        for index, block in enumerate(blocks):
            number = sum(len(earlier) for earlier in model.blocks[:stage]) + index
            for own, published in (other if hasattr(block, "conv_pwl") else first).items():
                renamed[f"blocks.{stage}.{index}.{own}"] = f"_blocks.{number}.{published}"
    parts = ((key.rpartition("."), value) for key, value in model.state_dict().items())
    return {f"{renamed[module]}.{name}": value for (module, _, name), value in parts}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_openai_archive_gives_the_tensors_of_its_tower(tmp_path: Path) -> None:
    class Whole(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.visual = small_clip().visual
            self.register_buffer("input_resolution", torch.tensor(224))

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.visual(images)

    whole = Whole().eval()
    with torch.no_grad():
        torch.jit.trace(whole, torch.zeros(1, 3, 224, 224)).save(tmp_path / "ViT.pt")
    tower = clip_tower(read_tensors(tmp_path / "ViT.pt"))
    expected = whole.visual.state_dict()
    assert tower.keys() == expected.keys()
    assert all(torch.equal(tower[key], expected[key]) for key in expected)


def test_older_transformers_and_training_checkpoints_are_the_same_tower() -> None:
    new = clip_tower(clip_weights("transformers"))
    older = {f"vision_model.{key}": value for key, value in clip_weights("transformers").items()}
    older |= {"vision_model.embeddings.position_ids": torch.arange(197), "text_model.x": torch.zeros(1)}
    training = {f"module.{key}": value for key, value in clip_weights("open_clip").items()}
    for other in (clip_tower(older), clip_tower(training)):
        assert other.keys() == new.keys()
        assert all(torch.equal(other[key], new[key]) for key in new)


def test_weights_that_do_not_fit_are_named() -> None:
    tensors = clip_weights("open_clip")
    del tensors["visual.ln_post.bias"]
    with pytest.raises(InputError, match=r"ln_post\.bias"):
        small_clip().load(tensors)
    tensors = clip_weights("transformers")
    del tensors["encoder.layers.1.self_attn.v_proj.bias"]
    with pytest.raises(InputError, match=r"1\.self_attn\.q_proj\.bias"):
        small_clip().load(tensors)


def test_efficientnet_takes_all_published_tensors_or_none() -> None:
    tensors = published_names(load_timm_lite0()) | {"_fc.weight": torch.zeros(1000, 1280)}
    EfficientNetLite0().load(tensors)
    with pytest.raises(InputError, match=r"_blocks\.16\._bn0\.bias"):
        EfficientNetLite0().load(tensors | {"_blocks.16._bn0.bias": torch.zeros(1)})
    del tensors["_blocks.3._bn1.running_var"]
    with pytest.raises(InputError, match=r"_blocks\.3\._bn1\.running_var"):
        EfficientNetLite0().load(tensors)


def test_weights_from_a_file_are_known_by_their_digest(tmp_path: Path) -> None:
    path = tmp_path / "lite0.pth"
    torch.save(published_names(load_timm_lite0()), path)
    encoder = load_encoder("efficientnet_lite0", weights=f"file:{path}", device="cpu")
    assert encoder.weights_digest == digest(f"file:{path}")
    assert encoder.encode(random_frames(1), 160).shape == (1, 1280)


def test_random_weights_say_so_repeat_and_leave_the_generator_alone(efficientnet: Encoder) -> None:
    state = torch.random.get_rng_state()
    again = load_encoder("efficientnet_lite0", weights="random", device="cpu")
    assert torch.equal(state, torch.random.get_rng_state())
    assert again.weights_digest == "random"
    frames = random_frames(2)
    features = again.encode(frames, 160).numpy()
    np.testing.assert_array_equal(features, efficientnet.encode(frames, 160))
    assert np.abs(features[0] - features[1]).mean() > 1e-3


def test_prepare_squashes_the_whole_frame_as_pillow_does(efficientnet: Encoder) -> None:
    frame = random_frames(1, 90, 200)[0]
    expected = np.asarray(Image.fromarray(frame).resize((160, 160), Image.Resampling.BICUBIC))
    prepared = efficientnet.prepare(frame[None], 160)
    assert prepared.dtype == np.uint8
    np.testing.assert_array_equal(prepared[0].transpose(1, 2, 0), expected)


def test_prepare_takes_frames_of_several_sizes_views_and_tensors(efficientnet: Encoder) -> None:
    large, small = random_frames(1, 300, 200)[0], random_frames(1, 160, 160)[0]
    prepared = efficientnet.prepare([large[::-1], small], 160)
    assert prepared.shape == (2, 3, 160, 160)
    np.testing.assert_array_equal(prepared[1].transpose(1, 2, 0), small)
    np.testing.assert_array_equal(efficientnet.prepare(torch.from_numpy(small[None]), 160)[0], prepared[1])


def test_no_frames_give_no_features(efficientnet: Encoder) -> None:
    assert efficientnet.encode(np.empty((0, 90, 120, 3), np.uint8), 160).shape == (0, 1280)


def test_wrong_frames_and_resolutions_are_refused(efficientnet: Encoder) -> None:
    with pytest.raises(InputError, match=r"float64 \[90, 120, 3\]"):
        efficientnet.encode(random_frames(1) / 255.0, 160)
    with pytest.raises(InputError, match="uint8"):
        efficientnet.encode(random_frames(1)[..., 0], 160)
    with pytest.raises(InputError, match=r"uint8 \[1, 160, 160, 3\]"):
        efficientnet.embed(random_frames(1, 160, 160))
    for refusing in (efficientnet.batch_size, efficientnet.gflops, lambda r: efficientnet.prepare([], r)):
        with pytest.raises(ValueError, match="225"):
            refusing(225)


@pytest.mark.parametrize("name", ["efficientnet", "clip"])
@pytest.mark.parametrize("resolution", [112, 160, 224])
def test_a_feature_does_not_depend_on_its_company(name: str, resolution: int, request: pytest.FixtureRequest) -> None:
    """Bitwise: alone, among others, in another order and at the end of a part-filled batch."""
    encoder: Encoder = request.getfixturevalue(name)
    frames = random_frames(11)
    together = encoder.encode(frames, resolution)
    assert together.dtype == torch.float32
    assert together.shape == (11, encoder.dim)
    np.testing.assert_array_equal(encoder.encode(frames[::-1], resolution).flip(0), together)
    for place in (0, 4, 10):
        np.testing.assert_array_equal(encoder.encode(frames[place : place + 1], resolution)[0], together[place])


def test_threads_share_a_network_that_stays_as_it_is(clip: Encoder) -> None:
    """Swapping a resized position table into the shared network let one thread leave it there for good."""
    prepared = clip.prepare(random_frames(2), 96)
    alone = clip.embed(prepared)
    with ThreadPoolExecutor(4, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        for features in pool.map(clip.embed, [prepared] * 300):
            np.testing.assert_array_equal(features, alone)
    assert len(clip.network.visual.positional_embedding) == 1 + 14**2


def test_batches_are_filled_by_clips_of_ten_frames(efficientnet: Encoder, clip: Encoder) -> None:
    for encoder in (efficientnet, clip):
        assert all(10 % encoder.batch_size(resolution) == 0 for resolution in (96, 112, 160, 224, 352, 448))


def test_normalisation_is_that_of_the_network(clip: Encoder) -> None:
    images = torch.from_numpy(random_frames(2, 112, 112)).permute(0, 3, 1, 2)
    mean, std = (torch.tensor(values).reshape(3, 1, 1) for values in (clip.network.mean, clip.network.std))
    with torch.inference_mode():
        expected = clip.network((images / 255.0 - mean) / std)
    np.testing.assert_allclose(clip.embed(images), expected.numpy(), atol=1e-5, rtol=0)


def test_bfloat16_stays_close(clip: Encoder) -> None:
    network = small_clip()
    network.load(clip_weights("open_clip"))
    rounded = Encoder("small", network, "formula", torch.device("cpu"), "bfloat16")
    a, b = (encoder.encode(random_frames(2), 160).numpy() for encoder in (clip, rounded))
    assert b.dtype == np.float32
    cosine = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    assert cosine.min() > 0.9999
    assert {p.dtype for n, p in network.named_parameters() if "norm" in n or "ln_" in n} == {torch.float32}


def test_timm_transformers_see_several_resolutions() -> None:
    encoder = load_encoder("timm:vit_tiny_patch16_224", weights="random", device="cpu")
    assert [encoder.encode(random_frames(1), r).shape for r in (112, 224)] == [(1, 192), (1, 192)]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_features_repeat_and_agree_with_the_cpu(efficientnet: Encoder) -> None:
    """float32 agrees to 1e-3 (values up to 6); bfloat16, the default, repeats bitwise in any company."""
    frames = random_frames(3)
    exact = load_encoder("efficientnet_lite0", weights="random", device="cuda", dtype="float32")
    np.testing.assert_allclose(exact.encode(frames, 160), efficientnet.encode(frames, 160), atol=1e-3)
    fast = load_encoder("efficientnet_lite0", weights="random", device="cuda")
    assert fast.dtype == "bfloat16"
    np.testing.assert_array_equal(fast.encode(frames[2:], 160)[0], fast.encode(frames, 160)[2])


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("resnet", {}, "efficientnet_lite0, clip_vit_b16"),
        ("timm:", {}, "for example"),
        ("timm:nothing", {"weights": "random"}, "timm:vit_small"),
        ("timm:resnet18", {"weights": "random"}, "several sizes"),
        ("open_clip:nothing", {"weights": "random"}, "open_clip:ViT-B-32"),
        ("open_clip:RN50", {"weights": "random"}, "no plain ViT"),
        ("timm:vit_tiny_patch16_224", {}, "give `weights` a source"),
        ("efficientnet_lite0", {"dtype": "int8"}, "bfloat16"),
        ("efficientnet_lite0", {"device": "gpu"}, "cuda:N"),
        ("efficientnet_lite0", {"device": "meta"}, "must be auto, cpu"),
    ],
)
def test_unknown_choices_are_named(name: str, options: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_encoder(name, **options)


def test_importing_the_encoder_imports_no_model_library() -> None:
    code = "import sys, avs.vision.encoder; print({'timm', 'open_clip', 'torchvision'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
