"""docs/from-the-seeds.md against the tree: what a row names is there, and every name of the seeds has a row."""

import contextlib
import copy
import importlib
import io
import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser

from avs.cli import make_parser
from avs.config import Config
from avs.core.errors import InputError
from avs.core.params import build

ROOT = Path(__file__).resolve().parents[1]
PARAMS = yaml.safe_load((ROOT / "params.yaml").read_text())
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]

# Every script, flag, environment variable, file and baseline that the two documents name.
SEED_NAMES = """
avs.smoke avs.pipeline.ave_p0_end2end avs.experiments.ave_p0_rerun scripts/ave_install_official.sh
scripts/ave_verify_official_after_install.sh scripts/e0001_ave_p0_real.sh scripts/e0001_ave_p0_real_multigpu.sh
scripts/e0002_anchor_eval_real.sh ffmpeg scipy requirements.txt
AVS_DATA_DIR AVS_RUNS_DIR MODE SRC_DIR SPLIT LIMIT CACHE_NUM_WORKERS CACHE_DEVICES
--eventness-method energy energy_delta ast panns audiomae audio_basic_lr audio_basic_mlp audio_basic_mlp_cls
--k --anchor-shift --anchor-std-threshold --anchor-select topk nms nms_strong --anchor-nms-radius
--anchor-nms-strong-gap --low-res --base-res --high-res --patch-size --anchor-base-alloc distance score farthest mixed
--anchor-high-policy fixed adaptive_v1
avs/ scripts/ docs/plan.md docs/experiment.md data/ runs/ .gitignore avs/audio/eventness.py avs/sampling/plans.py
avs/pipeline/ave_p0_end2end.py audio.wav frames/{0..9}.jpg data/AVE/raw/videos/<video_id>.mp4 data/AVE/meta/*.txt
metrics.json mlp temporal_conv E0001 E0002 E0003 EPIC-SOUNDS Recall@K Recall@K,Δ
uniform uniform_low random_top2 anchored_top2 oracle_top2 audio_concat_uniform audio_concat_anchored_top2
audio_feat_concat_uniform audio_feat_concat_anchored_top2
script/precompute_muse_features.py script/train.py --cache_dir --muse_cache_dir --include_mcorec --muse_scope
--visual_frontend_ckpt --device --streaming_dataset --nproc_per_node --use_seanet --seanet_scope --seanet_checkpoint
--freeze_seanet --freeze_avhubert data-bin/cache/muse_lip/<sha1[:2]>/<sha1>.npy data-bin/cache/muse_lip/index.jsonl
visual_frontend.pt model_0147.model src/muse/visual_frontend_cache.py src/seanet_wrapper.py
src/avhubert_avsr/avhubert_avsr_seanet.py src/dataset/avhubert_dataset.py requirements_all.txt
"""


@dataclass(frozen=True)
class Row:
    seed: str
    here: tuple[str, ...]


def rows() -> Iterator[Row]:
    for line in (ROOT / "docs/from-the-seeds.md").read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if line.startswith("|") and cells[0] not in ("seed", "---"):
            assert len(cells) == 3, line
            yield Row(cells[0], tuple(re.findall("`([^`]+)`", cells[1])))


ROWS = list(rows())


def exists(name: str) -> bool:
    """Whether what a code span of the column `here` names is there."""
    if name.startswith("$"):
        return any(f'"{name[1:]}"' in path.read_text() for path in (ROOT / "avs").rglob("*.py"))
    if name.startswith("python -m avs "):
        return _parses(shlex.split(name)[3:])
    if name.startswith("dvc "):
        return _dvc_can(shlex.split(name)[1:])
    if name.startswith("make "):
        return f"\n{name.split()[1]}:" in (ROOT / "Makefile").read_text()
    if ": " in name:
        place, value = name.split(": ")
        return _has_metric(ROOT / place, value) if place.endswith(".json") else _takes({place: yaml.safe_load(value)})
    if re.fullmatch(r"avs(\.\w+)+", name):
        return _importable(name)
    if "/" in name or Path(name).suffix in (".yaml", ".lock", ".md") or name == ".gitignore":
        return (ROOT / name).exists() or _written(name.rstrip("/"))
    return _has_key(name)


def _parses(arguments: list[str]) -> bool:
    with contextlib.redirect_stderr(io.StringIO()), contextlib.suppress(SystemExit):
        make_parser().parse_args(arguments)
        return True
    return False


def _dvc_can(words: list[str]) -> bool:
    """`repro` or `exp run`, stages that there are, and `-S key=value` that params.yaml takes all together."""
    words = words[1:] if words[0] == "repro" else words[2:]
    settings = [words[i + 1] for i, word in enumerate(words) if word == "-S"]
    stages = [word for word in words if word != "-S" and word not in settings]
    known = all(stage.partition("@")[0] in STAGES for stage in stages)
    overrides = OverridesParser.create().parse_overrides(settings)  # DVC's own reading of what follows -S
    return known and _takes({override.key_or_group: override.value() for override in overrides})


def _has_key(key: str) -> bool:
    tree = PARAMS
    for part in key.split("."):
        if not isinstance(tree, dict) or part not in tree:
            return False
        tree = tree[part]
    return True


def _takes(values: dict[str, Any]) -> bool:
    """Whether params.yaml is right with these values."""
    tree = copy.deepcopy(PARAMS)
    for key, value in values.items():
        if not _has_key(key):
            return False
        *blocks, last = key.split(".")
        block = tree
        for part in blocks:
            block = block[part]
        block[last] = value
    with contextlib.suppress(InputError):
        build(Config, tree, "params.yaml")
        return True
    return False


def _has_metric(path: Path, key: str) -> bool:
    tree = json.loads(path.read_text())
    for part in key.split("."):
        if part not in tree:
            return False
        tree = tree[part]
    return True


def _importable(name: str) -> bool:
    module, _, attribute = name.rpartition(".")
    with contextlib.suppress(ImportError):
        return hasattr(importlib.import_module(module), attribute)
    return False


def _written(name: str) -> bool:
    """Whether it is an output of a stage."""
    outs: set[str] = set()
    for stage in STAGES.values():
        for item in stage.get("foreach", [""]):
            body = stage.get("do", stage)
            outs |= {out.replace("${key}", item) for out in body["outs"] if isinstance(out, str)}
    return name in outs


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.seed)
def test_what_is_said_to_be_there_is_there(row: Row) -> None:
    assert row.here, "the row names nothing"
    for name in row.here:
        assert exists(name), f"{name} is not there"


def test_each_name_has_one_row() -> None:
    assert len({row.seed for row in ROWS}) == len(ROWS)


@pytest.mark.parametrize("name", SEED_NAMES.split())
def test_every_name_of_the_seeds_has_a_row(name: str) -> None:
    words = {word for row in ROWS for cell in (row.seed, *row.here) for word in re.split(r"[\s`=]+|: ", cell)}
    assert name in words


@pytest.mark.parametrize(
    "name",
    [
        "$AVS_NOTHING",
        "python -m avs nothing",
        "python -m avs doctor --nothing",
        "dvc repro nothing",
        "dvc exp run -S k=-1",
        "dvc exp run -S nothing=1",
        "make nothing",
        "k: -1",
        "results/p0/metrics.json: arms.nothing",
        "avs.core.media.nothing",
        "avs.nothing.at_all",
        "avs/nothing.py",
        "data/nothing/",
        "anchors.nothing",
        "k.nothing",
    ],
)
def test_what_is_not_there_is_found_out(name: str) -> None:
    assert not exists(name)
