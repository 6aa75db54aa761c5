"""Published checkpoints of the speech study: files in, models out, and the same models as safetensors.

A loaded model has `key_report`, which says how its tensors and those of the file met (see avs.core.checkpoint).
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from avs.avsr import avhubert_checkpoints
from avs.avsr.avhubert_checkpoints import load_avhubert, weight_files
from avs.avsr.seanet import CHUNK, HEADS, SEANet
from avs.core.checkpoint import KeyReport, check_strict, load_strict, read_description, read_tensors
from avs.core.errors import InputError
from avs.core.store import atomic, sha256_file, write_json
from avs.core.unpickle import told
from avs.lips import visual_frontend
from avs.lips.visual_frontend import VisualFrontend

_PREFIXES = ("model.", "module.", "module.model.")
_LARGEST = 4096  # of a size that a file claims


@dataclass(frozen=True)
class Kind:
    """A kind of model: how a name ends that only its files have, what reads them, and the sizes to write down."""

    mark: str
    load: Callable[[Path], nn.Module]
    sizes: Callable[[Any], dict[str, Any]] = lambda _: {}


def load_seanet(path: str | os.PathLike[str], *, K: int | None = None) -> SEANet:
    """SEANet of a published `model_NNNN.model`, with or without its prefix `model.`, or a converted one, in eval mode.

    Its sizes are those of the file's tensors; K, the length of a chunk, leaves no trace in them: where it is not given,
    it is what a converted file says, or as published. Nothing in the file can run. Raises InputError unless each tensor
    is there in its shape, and no other.
    """
    tensors = read_tensors(path)
    sizes = seanet_sizes(tensors, path) | {"K": K or _described_chunk(Path(path))}
    with torch.device("meta"):  # no memory is taken for sizes that a file only claims
        check_strict(SEANet(**sizes), tensors, source=path, prefixes=_PREFIXES)
    network = SEANet(**sizes)
    return _reported(network, load_strict(network, tensors, source=path, prefixes=_PREFIXES))


def seanet_sizes(tensors: Mapping[str, Tensor], source: str | os.PathLike[str] = "SEANet") -> dict[str, int]:
    """N, L, B, H, R and head as the shapes and names of a state dict have them, as published where it has not."""
    bare = {re.sub(r"^(module\.)?(model\.)?", "", name): value for name, value in tensors.items()}
    shapes = {
        "N": ("encoder.conv1d_U.weight", 0),
        "L": ("encoder.conv1d_U.weight", 2),
        "B": ("separator.bottleneck_conv1x1.weight", 0),
        "H": ("separator.rnn_s.0.intra_rnn.weight_hh_l0", 1),
        "head": ("separator.cross.0.inter_cross.linear_k1.weight", 0),
    }
    found = {size: bare[name].shape[axis] for size, (name, axis) in shapes.items() if _has(bare, name, axis)}
    if "head" in found:
        found["head"] //= HEADS
    stages = {int(match[1]) for name in bare if (match := re.match(r"separator\.rnn_s\.(\d{1,2})\.", name))}
    found |= {"R": max(stages) + 1} if stages else {}
    if too_large := {size: number for size, number in found.items() if not 1 <= number <= _LARGEST}:
        raise InputError(f"{source}: no SEANet has these sizes: {too_large}")
    return found


def _described_chunk(path: Path) -> int:
    described = read_description(path) if path.suffix == ".safetensors" else {}
    sizes = described.get("sizes")
    found = sizes.get("K", CHUNK) if isinstance(sizes, dict) else CHUNK
    if type(found) is not int or not 2 <= found <= _LARGEST:
        raise InputError(f"{path}: K ({told(found)}), the length of a chunk, must be from 2 to {_LARGEST}")
    return found


def load_visual_frontend(path: str | os.PathLike[str]) -> VisualFrontend:
    """MuSE's visual front-end of a published `visual_frontend.pt`, in eval mode; see avs.lips.visual_frontend."""
    return _reported(*visual_frontend.load_visual_frontend(path))


KINDS: dict[str, Kind] = {
    "seanet": Kind(
        "separator.adder.mask_conv1x1.weight",
        load_seanet,
        lambda network: seanet_sizes(network.state_dict()) | {"K": network.separator.K},
    ),
    "muse_visual_frontend": Kind("resnet.layer1.conv1a.weight", load_visual_frontend),
    "avhubert": Kind(avhubert_checkpoints.MARK, load_avhubert, avhubert_checkpoints.described),
}


def convert(source: Path, target: Path) -> KeyReport:
    """Write the model of a checkpoint as safetensors under its own names, and what it is as JSON beside it.

    Raises InputError for a file of no kind known here, one that does not fit its kind, and a target of another suffix.
    """
    if target.suffix != ".safetensors":
        raise InputError(f"{target} must end in .safetensors")
    files = weight_files(source) if source.is_dir() else [source]
    name = _recognised({key: value for file in files for key, value in read_tensors(file).items()}, source)
    network: Any = KINDS[name].load(source)
    digests = " ".join(sha256_file(file) for file in files)
    keys = str(network.key_report).splitlines()
    write_network(name, network, target, source=source.name, source_sha256=digests, keys=keys)
    return network.key_report


def write_network(name: str, network: Any, target: Path, **about: Any) -> None:
    """Write a network of kind `name` as safetensors, and what it is, with `about` it, as JSON beside it."""
    state = {key: value.contiguous().clone() for key, value in network.state_dict().items()}
    config = {
        "kind": name,
        "sizes": KINDS[name].sizes(network),
        "tensors": len(state),
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        **about,
    }
    with atomic(target) as file:
        # one key only: several stand in the file in an order that differs from run to run
        file.write(safetensors.torch.save(state, {"config": json.dumps(config)}))
    write_json(target.with_suffix(".json"), config)


def _recognised(tensors: Mapping[str, Tensor], source: Path) -> str:
    for name, kind in KINDS.items():
        if any(key.endswith(kind.mark) for key in tensors):
            return name
    first = ", ".join(list(tensors)[:3]) or "nothing"
    raise InputError(f"{source}: is none of {', '.join(KINDS)}: its tensors are {first}, …")


def _has(tensors: Mapping[str, Tensor], name: str, axis: int) -> bool:
    return name in tensors and tensors[name].ndim > axis


def _reported(network: Any, report: KeyReport) -> Any:
    network.eval()
    network.key_report = report
    return network
