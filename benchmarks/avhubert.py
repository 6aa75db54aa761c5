"""AV-HuBERT in its published sizes: reading a checkpoint, the encoder, the searches; beside plain modules.

Weights are random, since only their sizes count here. Each figure is of a process of its own, in one thread and, but
for reading, in CPU seconds: on a machine that others use, seconds of the clock would tell of them.
`python -m benchmarks.avhubert NAME CHECKPOINT` measures one.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from avs.avsr.avhubert import SIDE, AVHubertConfig
from avs.avsr.avhubert_checkpoints import load_avhubert
from avs.avsr.beam import search_attention, search_joint
from avs.avsr.decoders import DecoderConfig
from avs.avsr.precision import reduced
from avs.avsr.recognizers import CtcAttention, Recognizer, Seq2Seq
from avs.core.execute import one_thread, progress
from benchmarks import record
from benchmarks.plain_avhubert import PlainDecoder, plain_encoder

SECONDS, FPS = 10, 25
TOKENS = 20  # of the text that is searched for
FEW = 5  # beginnings, where the search without a cache is measured too
PUBLISHED = {"seq2seq": 50, "ctc_attention": 3}  # beginnings
MODELS: dict[str, Callable[[], Recognizer]] = {
    "base": lambda: Seq2Seq(AVHubertConfig.preset("base"), DecoderConfig(1000, 768, 6, 4, 3072, "fairseq")),
    "large": lambda: Seq2Seq(AVHubertConfig.preset("large"), DecoderConfig(1000, 1024, 9, 8, 4096, "fairseq")),
    "mcorec": lambda: CtcAttention(AVHubertConfig.preset("large"), DecoderConfig()),
}
FIGURES = ("load", "encoder", "encoder_bfloat16", "encoder_plain", "search", "search_bfloat16", "few", "few_plain")


def main() -> None:
    rows = {}
    for name in progress(list(MODELS), "models"):
        with tempfile.TemporaryDirectory() as folder:
            path, parameters = written(name, Path(folder))
            found = {figure: measured(figure, path) for figure in FIGURES}
        ratios = {f"{part}_ratio": _ratio(found, part) for part in ("encoder", "few")}
        rows[name] = {"parameters": parameters, **found, **ratios}
    settings = {"seconds": SECONDS, "tokens": TOKENS, "beam": PUBLISHED, "few": FEW, "threads": 1, "weights": "random"}
    figures = settings | {"models": rows}
    record("avhubert", figures)
    print(table(figures))


def written(name: str, folder: Path) -> tuple[Path, int]:
    """A checkpoint in the layout of its authors, and its number of parameters."""
    torch.manual_seed(0)
    model = MODELS[name]()
    heads = {"encoder_attention_heads": model.encoder.config.heads, "dheads": model.decoder.config.heads}
    if isinstance(model, Seq2Seq):
        cfg = {"model": {"decoder_attention_heads": heads["dheads"], "w2v_args": {"model": heads}}}
        torch.save({"args": None, "cfg": cfg, "model": model.state_dict()}, folder / "net.pt")
    else:
        (folder / "config.json").write_text(json.dumps(heads))
        save_file(model.state_dict(), folder / "model.safetensors")
    path = folder / "net.pt" if isinstance(model, Seq2Seq) else folder
    return path, sum(parameter.numel() for parameter in model.parameters())


def table(figures: dict[str, Any]) -> str:
    """The rows of docs/avsr.md."""
    head = ["model", "parameters", "read", "memory", f"encoder, {SECONDS} s", "bfloat16", "plain"]
    head += ["search, tokens/s", "bfloat16", f"beam {FEW}", "without cache"]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for name, row in figures["models"].items():
        cells = [
            name,
            f"{row['parameters'] / 1e6:.0f} M",
            f"{row['load']['seconds']:.1f} s",
            f"{row['encoder']['memory_mb']} MB",
        ]
        cells += [f"{row[f'encoder{kind}']['cpu_seconds']:.1f} s" for kind in ("", "_bfloat16", "_plain")]
        cells += [f"{row[kind]['tokens_per_second']:.2f}" for kind in ("search", "search_bfloat16", "few", "few_plain")]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _ratio(found: dict[str, Any], part: str) -> float:
    """How many times as long the plain way takes."""
    return round(found[f"{part}_plain"]["cpu_seconds"] / found[part]["cpu_seconds"], 2)


def measured(figure: str, path: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.avhubert", figure, str(path)]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def one(figure: str, path: Path) -> dict[str, Any]:
    """Seconds, and the memory that the process took at most beyond what it had before it read the checkpoint."""
    before, started = _memory(), time.perf_counter()
    model = load_avhubert(path)
    assert isinstance(model, Recognizer)
    seconds = time.perf_counter() - started
    with one_thread(), torch.inference_mode():
        found = {"seconds": round(seconds, 2)} if figure == "load" else _work(model, figure)
    return found | {"memory_mb": _memory() - before}


def _work(model: Recognizer, figure: str) -> dict[str, Any]:
    work, _, way = figure.partition("_")
    torch.manual_seed(0)
    with reduced(model, way == "bfloat16"):
        if work == "encoder":
            return _encoder(model, plain=way == "plain")
        few = FEW if work == "few" else None
        return _search(model, few, plain=way == "plain")


def _encoder(model: Recognizer, *, plain: bool) -> dict[str, Any]:
    frames = SECONDS * FPS
    given = torch.randn(1, frames, 104), torch.randn(1, 1, frames, SIDE, SIDE)
    model.encoder(given[0][:, :2], given[1][:, :, :2])
    seconds = _cpu_seconds(lambda: plain_encoder(model.encoder, *given) if plain else model.encoder(*given))
    return {"cpu_seconds": round(seconds, 2)}


def _search(model: Recognizer, beam: int | None, *, plain: bool) -> dict[str, Any]:
    features = torch.randn(1, SECONDS * FPS, model.encoder.config.width)
    decoder: Any = PlainDecoder(model.decoder) if plain else model.decoder

    def search() -> None:
        if isinstance(model, Seq2Seq):
            search_attention(decoder, features, None, [TOKENS], beam=beam or PUBLISHED["seq2seq"])
        else:
            # as many tokens as frames that CTC hears
            heard = model.ctc(features[:, :TOKENS])
            search_joint(decoder, features, None, heard, [TOKENS], beam=beam or PUBLISHED["ctc_attention"])

    seconds = _cpu_seconds(search)
    return {"cpu_seconds": round(seconds, 2), "tokens_per_second": round(TOKENS / seconds, 2)}


def _cpu_seconds(function: Callable[[], Any]) -> float:
    started = time.thread_time()
    function()
    return time.thread_time() - started


def _memory() -> int:
    """Megabytes that the process has held at most; not by getrusage, which begins with what its parent held."""
    status = Path("/proc/self/status").read_text().split()
    return int(status[status.index("VmHWM:") + 1]) // 1024


if __name__ == "__main__":
    if sys.argv[1:]:
        print(json.dumps(one(sys.argv[1], Path(sys.argv[2]))))
    else:
        main()
