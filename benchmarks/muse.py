"""MuSE's front-end beside the same graph in plain modules: frames a second over clips, and peak memory against length.

The plain one is what a script does: one clip at a time and whole, each module as it is defined, on all cores. Rounds
alternate, so that what else the machine does meets both; formula or trained, weights do not change the work.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from avs.core.execute import ExecutionParams
from avs.lips.features import Extractor
from avs.lips.visual_frontend import VisualFrontend, untrained_visual_frontend
from benchmarks import record

CLIPS, FRAMES, ROUNDS = 4, 75, 3
LENGTHS = {"ours": (75, 750, 3000), "plain": (75, 750)}  # plain takes a gigabyte for every 30 s


def plain(network: VisualFrontend, pictures: np.ndarray) -> np.ndarray:
    """Mouth crops uint8 [T,96,96] -> [T,512], one step after the other on the whole clip."""
    grey = torch.from_numpy(pictures)[:, None].float() / 255
    frames = (functional.interpolate(grey, size=(112, 112), mode="bilinear") - 0.4161) / 0.1688
    conv, norm = network.frontend3D
    x = torch.relu(norm(conv(frames.transpose(0, 1)[None])))
    x = functional.max_pool3d(x, (1, 3, 3), (1, 2, 2), (0, 1, 1))[0].transpose(0, 1)
    for layer in network.resnet.values():
        x = _plain_layer(layer, x)
    return functional.avg_pool2d(x, 4)[:, :, 0, 0].numpy()


def _plain_layer(layer: torch.nn.Module, x: Tensor) -> Tensor:
    total = layer.conv2a(torch.relu(layer.bn1a(layer.conv1a(x)))) + (layer.downsample(x) if layer.shrinks else x)
    y = layer.conv1b(torch.relu(layer.outbna(total)))
    return torch.relu(layer.outbnb(layer.conv2b(torch.relu(layer.bn1b(y))) + total))


def main() -> None:
    network = untrained_visual_frontend().requires_grad_(False)
    clips = [mouths(FRAMES, seed) for seed in range(CLIPS)]
    cores = ExecutionParams().num_workers()
    figures: dict[str, Any] = {f"cores_{n}": compare(network, clips, n) for n in sorted({1, cores})}
    peaks = {kind: {str(n): peak(kind, n) for n in lengths} for kind, lengths in LENGTHS.items()}
    figures |= {"peak_mib": peaks}
    record("muse", figures)
    print(table(figures))


def table(figures: dict[str, Any]) -> str:
    """The rows of docs/speech.md."""
    lines = ["| | ours | plain | ratio |", "|---|---|---|---|"]
    for name, row in figures.items():
        if name.startswith("cores_"):
            rates = [f"{row[kind]:.0f} frames/s" for kind in ("ours", "plain")]
            lines.append(f"| cores: {name.removeprefix('cores_')} | {' | '.join(rates)} | {row['ratio']} |")
    peaks = figures["peak_mib"]
    for frames in sorted(peaks["ours"], key=int):
        memory = [f"{peaks[kind][frames]} MiB" if frames in peaks[kind] else "not measured" for kind in LENGTHS]
        lines.append(f"| memory, {frames} frames | {' | '.join(memory)} | |")
    return "\n".join(lines)


def compare(network: VisualFrontend, clips: list[np.ndarray], cores: int) -> dict[str, float]:
    """Frames a second on so many cores, and the ratio: medians over rounds."""
    extractor = Extractor(network, "lips", "cpu")
    pool = ThreadPoolExecutor(cores, initializer=torch.set_num_threads, initargs=(1,))

    def ours() -> list[np.ndarray]:
        return list(pool.map(extractor.features, clips))

    def alternative() -> list[np.ndarray]:
        torch.set_num_threads(cores)
        with torch.inference_mode():
            return [plain(network, clip) for clip in clips]

    difference = max(float(np.abs(a - b).max()) for a, b in zip(ours(), alternative(), strict=True))
    rounds = [(seconds(ours), seconds(alternative)) for _ in range(ROUNDS)]
    rates = [CLIPS * FRAMES / statistics.median(times) for times in zip(*rounds, strict=True)]
    ratio = statistics.median(b / a for a, b in rounds)
    return {
        "ours": round(rates[0], 1),
        "plain": round(rates[1], 1),
        "ratio": round(ratio, 2),
        "largest_difference": difference,
    }


def mouths(length: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (length, 96, 96), dtype=np.uint8)


def seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def peak(kind: str, length: int) -> int:
    """Peak memory in MiB of a process that makes the features of one clip of that length."""
    command = [sys.executable, "-m", "benchmarks.muse", kind, str(length)]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def measure_peak(kind: str, length: int) -> None:
    torch.set_num_threads(1)
    network = untrained_visual_frontend().requires_grad_(False)
    with torch.inference_mode():
        if kind == "ours":
            Extractor(network, "lips", "cpu").features(mouths(length))
        else:
            plain(network, mouths(length))
    status = Path("/proc/self/status").read_text()  # getrusage would count what the process was forked from
    print(int(status.partition("VmHWM:")[2].split()[0]) // 1024)


if __name__ == "__main__":
    if len(sys.argv) == 3:
        measure_peak(sys.argv[1], int(sys.argv[2]))
    else:
        main()
