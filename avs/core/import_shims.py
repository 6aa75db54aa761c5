"""Lets libraries be imported beside a build of torch for which torchvision's or torchaudio's operators cannot load."""

from __future__ import annotations

import importlib
import sys

import torch

_BOXES = "Tensor dets, Tensor scores, float iou_threshold"
_declared: list[torch.library.Library] = []


def mend_imports() -> None:
    """Call before importing timm, open_clip or transformers, which import torchvision, torchaudio and each other.

    The registry's torchvision is a CUDA build: beside a CPU build of torch its operators are missing, and
    registering their shapes fails. Declaring the two schemas is enough for what needs no operator, such as the
    image towers. Nothing is declared where the real operators load. Where torchaudio's cannot load, transformers
    does as if it were absent, if it is told before its own import; nothing here needs it.
    """
    try:
        importlib.import_module("torchvision")
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
        _declare()
        importlib.import_module("torchvision")
    try:
        importlib.import_module("torchaudio")
    except OSError:
        sys.modules["torchaudio"] = None  # type: ignore[assignment]  # find_spec() then says that there is none
    except ImportError:
        pass


def _declare() -> None:
    library = torch.library.Library("torchvision", "DEF")
    _declared.append(library)  # the schemas vanish with the object
    for name in ("nms", "qnms"):
        library.define(f"{name}({_BOXES}) -> Tensor")
    for module in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        del sys.modules[module]
