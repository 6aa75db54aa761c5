"""A page in Chromium, from disk, and all that it complains of."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
SIZES = {"phone": {"width": 360, "height": 740}, "desktop": {"width": 1280, "height": 900}}


@contextmanager
def opened_browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if not BROWSER:
        pytest.skip("no Chromium is here (Debian: apt-get install chromium)")
    with playwright.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield browser
        browser.close()


class Opened:
    """A tab with all that it complained of, and every address that it asked for."""

    def __init__(self, browser: Any, address: str, size: str = "desktop", theme: str = "light") -> None:
        self.context = browser.new_context(viewport=SIZES[size], color_scheme=theme, reduced_motion="reduce")
        self.tab = self.context.new_page()
        self.said: list[str] = []
        self.asked: list[str] = []
        self.tab.on("console", lambda message: self.said.append(message.text))
        self.tab.on("pageerror", lambda error: self.said.append(str(error)))
        self.tab.on("dialog", lambda dialog: self.said.append(dialog.message))
        self.tab.on("request", lambda request: self.asked.append(request.url))
        self.tab.goto(address)

    def __enter__(self) -> Opened:
        return self

    def __exit__(self, *_: object) -> None:
        self.context.close()

    def until(self, condition: str) -> None:
        """Wait for it; the page's own policy forbids what Playwright would evaluate to wait."""
        for _ in range(200):
            if self.tab.evaluate(condition):
                return
            self.tab.wait_for_timeout(25)
        raise AssertionError(f"not within 5 s: {condition}")

    def gains(self) -> list[float]:
        texts = self.tab.locator("#list li > span:nth-child(2)").all_inner_texts()
        return [float(text.replace("−", "-")) for text in texts]

    def key(self) -> str:
        return self.tab.locator("#clip-title bdi").nth(1).inner_text()

    def colour(self) -> str:
        return self.tab.evaluate("getComputedStyle(document.body).backgroundColor")
