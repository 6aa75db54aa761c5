"""What of any run differs each time: environment, cost, parameters. It lies beside the pages, never in them."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from avs.core.provenance import COST, ENVIRONMENT
from avs.report.site import script, write_texts

if TYPE_CHECKING:
    from avs.config import Config


def write_facts(path: Path, fingerprint: str, config: Config, **more: Any) -> None:
    """Write a script of what is known of the run, with the fingerprint of the results that it belongs to."""
    facts = {"environment": _read(ENVIRONMENT), "cost": _read(COST), "params": asdict(config)}
    write_texts(path.parent, {path.name: script("AVS_RUN", facts | {"results": fingerprint} | more)})


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
