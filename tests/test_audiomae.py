"""AudioMAE: the layout of its files, and parity with timm's transformer."""

from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
import torch
from golden_fill import fill_array, wave

from avs.audio import kaldi
from avs.audio.audiomae import AudioMae, AudioMaeTagger
from avs.audio.eventness import EventnessParams, make_backend
from avs.core.checkpoint import load_strict
from avs.core.errors import InputError
from avs.core.import_shims import mend_imports
from avs.core.params import build

SMALL = {"dim": 24, "depth": 2, "heads": 3}


def timm_vit(dim: int, depth: int, heads: int) -> torch.nn.Module:
    """What the port of the weights to timm is loaded into."""
    mend_imports()
    from timm.models.vision_transformer import VisionTransformer

    return VisionTransformer(
        img_size=(1024, 128),
        in_chans=1,
        num_classes=527,
        global_pool="avg",
        embed_dim=dim,
        depth=depth,
        num_heads=heads,
    ).eval()


@pytest.fixture(scope="module")
def tensors() -> dict[str, torch.Tensor]:
    state = timm_vit(**SMALL).state_dict()
    return {name: torch.from_numpy(fill_array(name, value.shape)) for name, value in state.items()}


def test_parity_with_timm(tensors: dict[str, torch.Tensor]) -> None:
    """On 10.24 seconds, which are 1022 frames and the last of 64 rows of patches of the same silence: to 1e-5."""
    ours, theirs = AudioMae(**SMALL).eval(), timm_vit(**SMALL)
    load_strict(ours, tensors, source="weights")
    theirs.load_state_dict(tensors)
    sound = torch.from_numpy(wave("clip", (2, 1024 * 160 + 240), scale=0.3))
    bands = kaldi.audioset_input(sound)
    assert bands.shape == (2, 1024, 128)
    with torch.inference_mode():
        torch.testing.assert_close(ours(sound), theirs(bands[:, None]), rtol=0, atol=1e-5)


def test_full_size_has_the_published_names_and_shapes() -> None:
    with torch.device("meta"):
        state = AudioMae().state_dict()
        published = timm_vit(768, 12, 12).state_dict()
    assert {name: value.shape for name, value in state.items()} == {n: value.shape for n, value in published.items()}
    assert {"fc_norm.weight", "head.weight", "blocks.11.attn.qkv.bias"} <= state.keys()
    assert "norm.weight" not in state
    # The count that the published log of fine-tuning gives, and the position table, which was not trained.
    trained = sum(value.numel() for name, value in state.items() if name != "pos_embed")
    assert trained == 85_659_407


def test_short_sounds_take_the_middle_positions(tensors: dict[str, torch.Tensor]) -> None:
    """A second is 98 frames, 6 rows of 8 patches: their positions are rows 29 to 34 of 64, and no other matters."""
    network = AudioMae(**SMALL).eval()
    load_strict(network, tensors, source="weights")
    sound = torch.from_numpy(wave("clip", (1, 16000), scale=0.3))
    with torch.inference_mode():
        before = network(sound)
        network.pos_embed[:, 1 : 1 + 29 * 8] = 9.0
        network.pos_embed[:, 1 + 35 * 8 :] = 9.0
        torch.testing.assert_close(network(sound), before, rtol=0, atol=0)
        network.pos_embed[:, 1 + 29 * 8] = 9.0
        assert (network(sound) - before).abs().max() > 1e-3


def test_files_that_do_not_fit_are_refused_by_name(tensors: dict[str, torch.Tensor]) -> None:
    pretrained = {name: value for name, value in tensors.items() if not name.startswith("head.")}
    with pytest.raises(InputError, match=r"2 missing from the file: head\.weight, head\.bias"):
        load_strict(AudioMae(**SMALL), pretrained, source="file")  # without its trained head the scores are noise


def test_the_authors_settings_beside_the_weights_run_nothing(tmp_path: Path, tensors: dict[str, torch.Tensor]) -> None:
    torch.save({"model": tensors, "args": Namespace(lr=1.0)}, tmp_path / "finetuned.pth")
    network = AudioMae(**SMALL)
    AudioMaeTagger("random")._load(network, tmp_path / "finetuned.pth")
    torch.testing.assert_close(network.state_dict()["head.bias"], tensors["head.bias"], rtol=0, atol=0)


def test_without_weights_it_says_where_they_are() -> None:
    with pytest.raises(
        InputError, match=r"finetuned.pth from https://github.com/.*eventness.weights to file:PATH#sha256="
    ):
        make_backend("audiomae")
    with pytest.raises(InputError, match=r"params: top level: audiomae has no weights here"):
        build(EventnessParams, {"method": "audiomae"}, "params")


def test_random_weights_are_seeded() -> None:
    clip = wave("clip", (1, 16000))
    one, two = (make_backend("audiomae", weights="random")(clip, num_seconds=1) for _ in range(2))
    np.testing.assert_array_equal(one, two)
