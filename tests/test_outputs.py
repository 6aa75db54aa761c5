"""What a study leaves behind, read back by what takes it: networks, metrics, hypotheses."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from fit_models import SILENT
from torch import nn

from avs.avsr.avhubert import AVHubertConfig
from avs.avsr.checkpoints import load_seanet
from avs.avsr.decoders import DecoderConfig
from avs.avsr.outputs import write_outputs
from avs.avsr.recognizers import CtcAttention
from avs.avsr.scores import Heard
from avs.avsr.seanet import SEANet
from avs.avsr.study import Study
from avs.avsr.text import word_tokenizer
from avs.avsr.train import Fitted
from avs.avsr.transcribe import load_recognizer
from avs.core.clips import read_table
from avs.core.execute import one_thread

SEANET = {"N": 8, "L": 40, "B": 4, "H": 4, "K": 10, "R": 2, "head": 8}


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


def study(*, seanet: bool = True) -> Study:
    torch.manual_seed(0)
    tokenizer = word_tokenizer(["bin blue at f two now"])
    encoder = AVHubertConfig(width=32, layers=1, heads=4, inner=48, front_end="small", **SILENT)
    recognizer = CtcAttention(encoder, DecoderConfig(len(tokenizer.symbols), 16, 2, 2, 24))
    recognizer.tokenizer = tokenizer
    rows = [Heard(key, "grid", "s1", "clean", "av", "bin blue", "bin", 1, 2) for key in ("a", "b")]
    fitted = {
        "both": Fitted(9, 9, None, [], seconds=0.0126, peak_mb=321),
        "joint": Fitted(3, 2, 0.5, []),  # was trained before
    }
    return Study(recognizer, SEANet(**SEANET) if seanet else None, fitted, rows, separated={"si_sdr": {"snr_0": {}}})


def same(one: nn.Module, other: nn.Module) -> bool:
    states = one.state_dict(), other.state_dict()
    return states[0].keys() == states[1].keys() and all(
        torch.equal(value, states[1][name]) for name, value in states[0].items()
    )


def test_the_recognizer_is_one_that_transcribe_takes(tmp_path: Path) -> None:
    made = study()
    write_outputs(made, tmp_path / "models", tmp_path / "results")
    found = load_recognizer(tmp_path / "models/recognizer.safetensors")
    assert same(found, made.recognizer)
    assert found.tokenizer == made.recognizer.tokenizer
    assert found.tokenizer is not None
    assert found.tokenizer.encode("two bin") == [7, 3]
    config, wanted = found.encoder.config, made.recognizer.encoder.config
    assert (config.front_end, config.heads) == ("small", 4) == (wanted.front_end, wanted.heads)
    assert found.decoder.config.heads == 2
    sounds = torch.randn(1, 5, 104), torch.randn(1, 1, 5, 88, 88)
    with torch.inference_mode():
        assert torch.equal(found.encoder(*sounds), made.recognizer.eval().encoder(*sounds))


def test_seanet_keeps_what_no_tensor_tells(tmp_path: Path) -> None:
    made = study()
    write_outputs(made, tmp_path / "models", tmp_path / "results")
    found = load_seanet(tmp_path / "models/seanet.safetensors")
    assert made.seanet is not None
    assert same(found, made.seanet)
    assert json.loads((tmp_path / "models/seanet.json").read_text())["sizes"] == SEANET
    given = torch.randn(1, 3200), torch.randn(1, 5, 512)
    with torch.inference_mode():
        assert torch.equal(found(*given), made.seanet.eval()(*given))


def test_metrics_hypotheses_and_costs(tmp_path: Path) -> None:
    made = study(seanet=False)
    cost = write_outputs(made, tmp_path / "models", tmp_path / "results")
    assert cost == {"clips": 2, "both_step_ms": 13, "both_peak_mb": 321}
    metrics = json.loads((tmp_path / "results/metrics.json").read_text())
    assert (metrics["clips"], metrics["words"], metrics["wer"]["av"]["clean"]["wer"]) == (2, 4, 0.5)
    assert metrics["si_sdr"] == {"snr_0": {}}
    assert read_table(tmp_path / "results/hypotheses.tsv", Heard) == made.rows
    assert not (tmp_path / "models/seanet.safetensors").exists()
    about = json.loads((tmp_path / "models/recognizer.json").read_text())
    assert (about["kind"], about["trained"]) == ("avhubert", {"both": 9, "joint": 2})


def test_the_same_networks_are_the_same_bytes(tmp_path: Path) -> None:
    """The order in which a file's description is written must not be left to chance: it is an output of a stage."""
    for number in range(6):
        write_outputs(study(), tmp_path / str(number), tmp_path / "results")
    for name in ("recognizer.safetensors", "seanet.safetensors"):
        assert len({(tmp_path / str(number) / name).read_bytes() for number in range(6)}) == 1
