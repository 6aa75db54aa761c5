"""AV-HuBERT's golden numbers: small networks with weights of the formula, and where the numbers lie."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from golden_fill import fill_array, wave
from torch import Tensor, nn

from avs.avsr.avhubert import AVHubertConfig
from avs.avsr.decoders import DecoderConfig

GOLDEN = Path(__file__).parent / "golden"
SHARED = Path(__file__).resolve().parents[2] / "shared/golden"
SMALL = AVHubertConfig(width=64, layers=2, heads=4, inner=128)
FAIRSEQ = DecoderConfig(vocabulary=40, width=64, layers=2, heads=4, inner=128, style="fairseq")
ESPNET = DecoderConfig(vocabulary=40, width=64, layers=2, heads=4, inner=128)
NARROW = DecoderConfig(vocabulary=40, width=32, layers=2, heads=2, inner=64)
TOLERANCE = 2e-5  # float32 is 1.7e-6 from float64
LOSS, SCORE = 1e-5, 1e-3  # relative; absolute

Network = TypeVar("Network", bound=nn.Module)


def filled(network: Network, names: Mapping[str, str] | None = None) -> Network:
    """The network in eval mode, each tensor by the formula of its name, that of `names` where it is there.

    An encoder's tensors have the names of pre-training.
    """
    names = names or {}
    state = network.state_dict()
    for name, value in state.items():
        known = names.get(name, name.removeprefix("encoder.") if hasattr(network, "decoder") else name)
        state[name] = torch.from_numpy(fill_array(known, value.shape))
    network.load_state_dict(state)
    return network.eval()


def golden(name: str) -> dict[str, np.ndarray]:
    return dict(np.load(GOLDEN / f"{name}.npz"))


def table(path: Path) -> dict[str, tuple[tuple[int, ...], str]]:
    """Of each name in a file, its shape and the name in the formula."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    return {
        row["key"]: (tuple(map(int, filter(None, row["shape"].split(",")))), row["fill_key"] or row["key"])
        for row in rows
    }


def tensors_of(path: Path) -> dict[str, Tensor]:
    """A table's tensors under the names of its files."""
    return {name: torch.from_numpy(fill_array(known, shape)) for name, (shape, known) in table(path).items()}


def inputs(audio: str, video: str, clips: int, frames: int) -> tuple[Tensor, Tensor]:
    """Sound [B,T,104] and lips [B,1,T,88,88] by their names in the formula."""
    heard = torch.from_numpy(wave(audio, (clips, 104, frames), scale=1.2)).transpose(1, 2)
    return heard, torch.from_numpy(wave(video, (clips, 1, frames, 88, 88), scale=1.2))


def padding(lengths: np.ndarray | list[int], frames: int | None = None) -> Tensor:
    """True on frames at or after each length."""
    known = torch.as_tensor(lengths)
    return torch.arange(frames or int(known.max())) >= known[:, None]


def largest(found: Tensor, expected: np.ndarray | Tensor) -> float:
    """The largest absolute difference of two arrays of one shape."""
    assert found.shape == expected.shape
    return float((found.detach() - torch.as_tensor(expected)).abs().max())
