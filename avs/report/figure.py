"""Writes a figure whole or not at all."""

from __future__ import annotations

import warnings
from pathlib import Path

from matplotlib.figure import Figure

from avs.core.store import atomic


def save_figure(path: Path, figure: Figure, dpi: int = 110) -> None:
    """As a PNG; names in scripts that the font lacks are drawn as boxes."""
    with atomic(path) as file, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(file, format="png", dpi=dpi)
