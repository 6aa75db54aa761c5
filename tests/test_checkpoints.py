"""Published files of the speech study: read with either prefix, refused with a reason, converted and read back."""

from __future__ import annotations

import json
import os
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from golden_fill import wave
from safetensors.torch import save_file

from avs.avsr.checkpoints import convert, load_seanet, load_visual_frontend, seanet_sizes, write_network
from avs.avsr.seanet import SEANet
from avs.cli import main
from avs.core.errors import InputError
from avs.core.execute import one_thread
from avs.core.store import sha256_file
from avs.lips.visual_frontend import untrained_visual_frontend

SIZES = {"N": 16, "L": 40, "B": 8, "H": 4, "R": 3, "head": 16}
LOADERS = [load_seanet, load_visual_frontend]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


def seanet() -> SEANet:
    torch.manual_seed(0)
    return SEANet(K=20, **SIZES).eval()


def saved(path: Path, state: dict[str, Any], prefix: str = "model.") -> Path:
    torch.save({prefix + name: value for name, value in state.items()}, path)
    return path


@pytest.mark.parametrize("prefix", ["", "model.", "module.", "module.model."])
def test_seanet_with_and_without_prefix(prefix: str, tmp_path: Path) -> None:
    """Its sizes, but for K, are found in the file."""
    model = seanet()
    found = load_seanet(saved(tmp_path / "model_0147.model", model.state_dict(), prefix), K=20)
    assert str(found.key_report).startswith(f"{len(model.state_dict())} of {len(model.state_dict())} tensors match")
    assert not found.training
    assert seanet_sizes(model.state_dict()) == SIZES
    mixture, visual = torch.from_numpy(wave("mix", (1, 3200))), torch.from_numpy(wave("muse", (1, 5, 512)))
    with torch.inference_mode():
        assert torch.equal(found(mixture, visual), model(mixture, visual))


def test_visual_frontend(tmp_path: Path) -> None:
    model = untrained_visual_frontend()
    found = load_visual_frontend(saved(tmp_path / "visual_frontend.pt", model.state_dict(), ""))
    assert len(found.key_report.matched) == 106
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in found.state_dict().items())


class Hostile:
    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> Any:
        return os.system, (self.command,)


@pytest.mark.parametrize("load", [*LOADERS, lambda path: convert(path, path.with_suffix(".safetensors"))])
@pytest.mark.parametrize("nested", [False, True])
def test_no_loader_runs_code(load: Any, nested: bool, tmp_path: Path) -> None:
    payload = Hostile(f"touch {tmp_path}/ran")
    saved(tmp_path / "net.model", seanet().state_dict() | {"extra": [{"deep": (payload,)}] if nested else payload})
    with pytest.raises(InputError, match=r"net\.model: wants to run (posix|nt)\.system, which is refused"):
        load(tmp_path / "net.model")
    assert [file.name for file in tmp_path.iterdir()] == ["net.model"]


def slip(path: Path) -> None:
    """One more member, whose name leads out of the folder."""
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("../../outside", b"x")


def claim(path: Path) -> None:
    """The older layout, with a storage of 4 GB declared in a file of 300 kB."""
    torch.save({"model.extra": torch.zeros(70000)}, path, _use_new_zipfile_serialization=False)
    path.write_bytes(path.read_bytes().replace(struct.pack("<i", 70000), struct.pack("<i", 1 << 30)))


@pytest.mark.parametrize("load", LOADERS)
@pytest.mark.parametrize(("harm", "message"), [(slip, r"without '\.\.'"), (claim, "more than the file holds")])
def test_no_loader_leaves_its_folder_or_believes_a_size(load: Any, harm: Any, message: str, tmp_path: Path) -> None:
    harm(saved(tmp_path / "net.model", seanet().state_dict()))
    with pytest.raises(InputError, match=message):
        load(tmp_path / "net.model")
    assert [file.name for file in tmp_path.iterdir()] == ["net.model"]


@pytest.mark.parametrize("load", LOADERS)
def test_an_unrelated_file_matches_nothing(load: Any, tmp_path: Path) -> None:
    saved(tmp_path / "net.pt", {"fc.weight": torch.zeros(2, 3)})
    with pytest.raises(InputError, match=r"net\.pt: tensors do not fit \w+: 0 of (755|106) tensors match; .*missing"):
        load(tmp_path / "net.pt")


def changed(**changes: torch.Tensor | None) -> dict[str, torch.Tensor]:
    return {name: value for name, value in (seanet().state_dict() | changes).items() if value is not None}


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (changed(**{"decoder.basis_signals.weight": None}), "1 missing from the file: decoder.basis_signals.weight$"),
        (changed(optimizer=torch.zeros(1)), "1 left over in the file: optimizer$"),
        (
            changed(**{"separator.av_conv.weight": torch.zeros(8, 9, 1)}),
            "1 of another shape: separator.av_conv.weight is 8×9×1 in the file, 8×264×1 here$",
        ),
        (changed(**{"encoder.conv1d_U.weight": torch.zeros(1).expand(9999, 1, 40)}), r"no SEANet has .*'N': 9999"),
    ],
)
def test_a_partial_match_says_what_is_wrong(state: dict[str, torch.Tensor], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        load_seanet(saved(tmp_path / "net.model", state))


def test_sizes_that_are_only_claimed_take_no_memory(tmp_path: Path) -> None:
    """A small file whose few tensors, views of one number, would make a network of 100 GB."""
    state = {
        "encoder.conv1d_U.weight": torch.zeros(1).expand(4096, 1, 40),
        "separator.bottleneck_conv1x1.weight": torch.zeros(1).expand(4096, 4096, 1),
        "separator.rnn_s.0.intra_rnn.weight_hh_l0": torch.zeros(1).expand(16384, 4096),
        "separator.rnn_s.20.x": torch.zeros(1),
    }
    with pytest.raises(InputError, match="2492 missing from the file"):
        load_seanet(saved(tmp_path / "net.model", state))


def test_converted_and_read_back_is_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, target = saved(tmp_path / "model_0147.model", seanet().state_dict()), tmp_path / "out/seanet.safetensors"
    main(["weights", "convert", str(source), str(target)])
    printed = capsys.readouterr().out
    assert "tensors match, prefix 'model.' stripped" in printed
    assert f"written: {target}, {target.with_suffix('.json')}" in printed
    config = json.loads(target.with_suffix(".json").read_text())
    assert (config["kind"], config["source_sha256"]) == ("seanet", sha256_file(source))
    assert config["sizes"] == SIZES | {"K": 100}
    mixture, visual = torch.from_numpy(wave("mix", (1, 3200))), torch.from_numpy(wave("muse", (1, 5, 512)))
    with torch.inference_mode():
        assert torch.equal(load_seanet(source)(mixture, visual), load_seanet(target)(mixture, visual))


def test_the_length_of_a_chunk_is_in_the_description(tmp_path: Path) -> None:
    """It leaves no trace in the tensors, and changes the voice."""
    model, path = seanet(), tmp_path / "seanet.safetensors"
    write_network("seanet", model, path)
    mixture, visual = torch.from_numpy(wave("mix", (1, 6400))), torch.from_numpy(wave("muse", (1, 10, 512)))
    with torch.inference_mode():
        wanted = model(mixture, visual)
        assert torch.equal(load_seanet(path)(mixture, visual), wanted)
        assert not torch.equal(load_seanet(path, K=30)(mixture, visual), wanted)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ('{"sizes": {"K": "20"}}', r"net\.safetensors: K \(.*20.*\), the length of a chunk, must be from 2 to 4096"),
        ('{"sizes": {"K": 1000000000}}', r"K \(1000000000\), the length"),
        ('{"sizes": {"K": 21}}', r"K \(21\) even"),
        ("[1]", "description is damaged"),
        ("{", "description is damaged"),
    ],
)
def test_a_damaged_description_is_refused(config: str, message: str, tmp_path: Path) -> None:
    save_file(seanet().state_dict(), tmp_path / "net.safetensors", {"config": config})
    with pytest.raises(InputError, match=message):
        load_seanet(tmp_path / "net.safetensors")


def test_converts_the_visual_frontend(tmp_path: Path) -> None:
    source = saved(tmp_path / "visual_frontend.pt", untrained_visual_frontend().state_dict(), "")
    assert len(convert(source, tmp_path / "muse.safetensors").matched) == 106
    found = load_visual_frontend(tmp_path / "muse.safetensors").state_dict()
    assert all(torch.equal(value, found[name]) for name, value in untrained_visual_frontend().state_dict().items())
    assert json.loads((tmp_path / "muse.json").read_text())["kind"] == "muse_visual_frontend"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("other.pt out.safetensors", r"other.pt: is none of seanet, .*: its tensors are fc.weight"),
        ("other.pt out.pt", "out.pt must end in .safetensors"),
        ("absent.pt out.safetensors", "absent.pt: cannot be read"),
        ("other.pt", "takes two paths"),
    ],
)
def test_convert_refuses_what_it_does_not_know(
    arguments: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    saved(tmp_path / "other.pt", {"fc.weight": torch.zeros(2, 3)}, "")
    with pytest.raises(SystemExit, match=message):
        main(["weights", "convert", *arguments.split()])
    assert [file.name for file in tmp_path.iterdir()] == ["other.pt"]
