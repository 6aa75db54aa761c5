"""The networks that training begins with: new ones by seed, those of checkpoints, and what does not fit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from avhubert_golden import ESPNET, FAIRSEQ, SMALL, filled
from test_text import folder as tokenizer_folder
from torch import nn

from avs.avsr.avhubert import AVHubertEncoder
from avs.avsr.checkpoints import write_network
from avs.avsr.recipes import AvsrParams, recipe
from avs.avsr.recognizers import CtcAttention, Seq2Seq
from avs.avsr.seanet import SEANet
from avs.avsr.start import Start, start
from avs.avsr.text import Tokenizer
from avs.core.errors import InputError
from avs.core.execute import one_thread
from avs.core.store import sha256_file

SAID = ["bin blue", "set white now"]
UNITS = Tokenizer(tuple(f"x{number}" for number in range(40)))
SEANET = {"N": 8, "L": 40, "B": 4, "H": 4, "K": 10, "R": 2}


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


def begun(*, small: bool = True, **given: Any) -> Start:
    """With published presets as small as the checkpoints here."""
    p = AvsrParams(**given)
    r = recipe(p)
    if p.preset != "tiny" and small:
        r = replace(r, encoder=SMALL, decoder={"width": 32, "layers": 1, "heads": 2, "inner": 32}, seanet=SEANET)
    return start(p, r, SAID)


def saved(path: Path, network: nn.Module, tokenizer: Tokenizer | None = None) -> str:
    network.tokenizer = tokenizer  # type: ignore[assignment]
    write_network("avhubert", network, path)
    return str(path)


def same(one: nn.Module, other: nn.Module) -> bool:
    states = one.state_dict(), other.state_dict()
    return states[0].keys() == states[1].keys() and all(
        torch.equal(value, states[1][name]) for name, value in states[0].items()
    )


def test_from_scratch_the_seed_decides() -> None:
    one, again, other = (begun(seed=seed) for seed in (0, 0, 1))
    assert one.seanet is not None
    assert again.seanet is not None
    assert same(one.recognizer, again.recognizer)
    assert same(one.seanet, again.seanet)
    assert not same(one.recognizer, other.recognizer)
    assert one.tokenizer == one.recognizer.tokenizer
    assert one.tokenizer.encode("bin white") == [2, 6]
    assert one.recognizer.decoder.config.vocabulary == 8
    assert one.digests == ("", "")


def test_without_seanet_the_recognizer_is_the_same() -> None:
    without = begun(use_seanet=False)
    assert without.seanet is None
    assert same(without.recognizer, begun().recognizer)


@pytest.mark.parametrize("network", [Seq2Seq(SMALL, FAIRSEQ), CtcAttention(SMALL, ESPNET)])
def test_a_fine_tuned_checkpoint_is_taken_as_it_is(network: Seq2Seq | CtcAttention, tmp_path: Path) -> None:
    path = saved(tmp_path / "net.safetensors", filled(network), UNITS)
    found = begun(preset="base", checkpoint=path, use_seanet=False)
    assert type(found.recognizer) is type(network)
    assert same(found.recognizer, network)
    assert found.tokenizer == found.recognizer.tokenizer == UNITS
    assert found.digests == (sha256_file(Path(path)), "")


def test_an_encoder_alone_gets_a_new_decoder(tmp_path: Path) -> None:
    encoder = filled(AVHubertEncoder(SMALL))
    path = saved(tmp_path / "net.safetensors", encoder)
    (tmp_path / "units").mkdir()
    units = tokenizer_folder(tmp_path / "units")
    found = begun(preset="base", checkpoint=path, tokenizer=str(units))
    assert isinstance(found.recognizer, CtcAttention)
    assert same(found.recognizer.encoder, encoder)
    assert found.recognizer.decoder.config.vocabulary == len(found.tokenizer.symbols)
    assert (found.recognizer.decoder.config.width, found.recognizer.ctc_weight) == (32, 0.1)
    with pytest.raises(InputError, match=r"avsr\.checkpoint \(.*net\.safetensors\) has no tokenizer: name a folder of"):
        begun(preset="base", checkpoint=path)


def test_seanet_of_a_checkpoint(tmp_path: Path) -> None:
    """With its own sizes; without one, a published preset begins with random filters, `tiny` with waves."""
    network = SEANet(**SEANET | {"N": 12, "K": 14})
    write_network("seanet", network, tmp_path / "seanet.safetensors")
    found = begun(seanet_checkpoint=str(tmp_path / "seanet.safetensors"))
    assert found.seanet is not None
    assert same(found.seanet, network)
    assert found.seanet.separator.K == 14
    assert found.digests == ("", sha256_file(tmp_path / "seanet.safetensors"))
    path = saved(tmp_path / "net.safetensors", filled(CtcAttention(SMALL, ESPNET)), UNITS)
    fresh = begun(preset="large", checkpoint=path).seanet
    assert fresh is not None
    assert fresh.encoder.conv1d_U.weight.shape[0] == SEANET["N"]


@pytest.mark.parametrize("preset", ["tiny", "base", "large", "mcorec"])
def test_a_checkpoint_of_another_size_is_refused_by_name(preset: Any, tmp_path: Path) -> None:
    path = saved(tmp_path / "net.safetensors", filled(CtcAttention(SMALL, ESPNET)), UNITS)
    wanted = recipe(AvsrParams(preset=preset, checkpoint=path)).encoder
    with pytest.raises(InputError) as told:
        begun(preset=preset, checkpoint=path, small=False)
    sizes = f"({wanted.width}, {wanted.layers}, {wanted.heads}, {wanted.inner})"
    message = f"avsr.checkpoint ({path}) has width, layers, heads and inner (64, 2, 4, 128), but avsr.preset ({preset})"
    assert str(told.value) == f"{message} {sizes}"


@pytest.mark.parametrize("name", ["checkpoint", "seanet_checkpoint"])
def test_a_checkpoint_that_is_not_there_is_told_by_its_parameter(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=rf"avsr\.{name} \(.*none\.pt\) is not there"):
        begun(**{name: str(tmp_path / "none.pt")})
