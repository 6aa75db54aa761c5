"""Every test gets an item store of its own; only published weights are kept between runs."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from page_browser import opened_browser
from page_study import write_study
from speech_study import write_speech_study

from avs.core.media import write_media


@pytest.fixture(autouse=True)
def _own_store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not request.node.get_closest_marker("weights"):
        monkeypatch.setenv("AVS_STORE", str(tmp_path / "store"))
        monkeypatch.delenv("AVS_WEIGHTS", raising=False)
    monkeypatch.delenv("AVS_DATA_DIR", raising=False)


@pytest.fixture
def tiny_videos(tmp_path: Path) -> Path:
    """Six 3-second videos v0..v5 of 48x32 pixels at 4 fps, each with a tone from second 1 to 2."""
    folder = tmp_path / "videos"
    folder.mkdir()
    for number in range(6):
        rng = np.random.default_rng(number)
        frames = [rng.integers(0, 255, (32, 48, 3), dtype=np.uint8) for _ in range(12)]
        audio = np.zeros(3 * 16000)
        audio[16000:32000] = 0.3 * np.sin(2 * np.pi * 200 * (1 + number) * np.arange(16000) / 16000)
        write_media(folder / f"v{number}.mp4", frames, fps=4, audio=(audio * 32767).astype(np.int16))
    return folder


@pytest.fixture(scope="session")
def page_study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small study on disk with hostile names: see page_study.py. Tests only read it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AVS_STORE", str(tmp_path_factory.mktemp("page-store")))
        return write_study(tmp_path_factory.mktemp("page-study"))


@pytest.fixture(scope="session")
def speech_study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small study of speech on disk with hostile texts: see speech_study.py. Tests only read it."""
    return write_speech_study(tmp_path_factory.mktemp("speech-study"))


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium, where there is one."""
    with opened_browser() as found:
        yield found
