"""AV-HuBERT beside fairseq's own classes, where they are installed: the same file, the same numbers."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from avhubert_golden import LOSS, SCORE, SHARED, TOLERANCE, largest, padding

from avs.avsr.avhubert_checkpoints import load_avhubert
from avs.avsr.beam import search_attention
from avs.avsr.recognizers import Seq2Seq, smoothed_cross_entropy
from avs.core.execute import one_thread
from avs.core.unpickle import read_pickle

HERE = Path(__file__).parent
FILES = [SHARED / f"dev/{name}.pt" for name in ("fairseq_finetuned_tiny", "fairseq_pretrain_partial_legacy")]
pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("fairseq") is None,
    reason="fairseq is not installed (its wheel is for Python 3.11 on Linux x86-64; see docs/fairseq.md)",
)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What fairseq wrote and said, in a process of its own."""
    found = tmp_path_factory.mktemp("fairseq")
    command = [
        sys.executable,
        str(HERE / "fairseq_peer.py"),
        str(found),
        *(str(path) for path in FILES if path.exists()),
    ]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=os.environ | {"PYTHONPATH": str(HERE.parent)}
    )
    assert done.returncode == 0, done.stderr
    return found


@pytest.fixture(scope="module")
def model(folder: Path) -> Seq2Seq:
    found = load_avhubert(folder / "model.pt")
    assert isinstance(found, Seq2Seq)
    return found


@torch.no_grad()
def test_encoder_decoder_and_losses(folder: Path, model: Seq2Seq) -> None:
    said = np.load(folder / "outputs.npz")
    mask = padding(said["lengths"])
    memory = model.encoder.encoder(torch.from_numpy(said["features"]), mask)
    assert largest(memory, said["memory"]) < TOLERANCE
    given = torch.from_numpy(said["given"])
    logits = model.decoder(given, memory, mask)
    assert largest(logits, said["logits"]) < TOLERANCE
    smoothed, plain = smoothed_cross_entropy(logits, given)
    assert float(smoothed) == pytest.approx(float(said["smoothed"]), rel=LOSS)
    assert float(plain) == pytest.approx(float(said["nll"]), rel=LOSS)


def test_beam_search(folder: Path, model: Seq2Seq) -> None:
    said = np.load(folder / "outputs.npz")
    memory = torch.from_numpy(said["memory"])
    found = search_attention(model.decoder, memory, padding(said["lengths"]), [9, 9], beam=5)
    for clip, best in enumerate(found):
        assert len(best) == 5
        for place, one in enumerate(best):
            assert [*one.tokens, 2] == said[f"beam.{clip}.{place}.tokens"].tolist()
            assert one.score == pytest.approx(float(said[f"beam.{clip}.{place}.score"]), abs=SCORE)


def test_dictionary_and_sentencepiece(model: Seq2Seq) -> None:
    tokenizer = model.tokenizer
    assert tokenizer is not None
    assert tokenizer.symbols[:4] == ("<s>", "<pad>", "</s>", "<unk>")
    assert tokenizer.decode(tokenizer.encode("set blue now")) == "set blue now"


def test_files_are_read_as_fairseqs_classes_read_them(folder: Path) -> None:
    told = json.loads((folder / "read.json").read_text())
    paths = [folder / "model.pt", *(path for path in FILES if path.exists())]
    assert set(told) == {path.name for path in paths}
    for path in paths:
        sums = {name: float(value.double().sum()) for name, value in read_pickle(path)["model"].items()}
        assert sums == pytest.approx(told[path.name], abs=1e-9)


def test_no_module_of_the_kit_imports_fairseq() -> None:
    sources = [path for part in ("avs", "stages") for path in (HERE.parent / part).rglob("*.py")]
    assert sources
    assert not [path for path in sources if "import fairseq" in path.read_text() or "from fairseq" in path.read_text()]
