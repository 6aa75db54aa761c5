"""The page in a browser, from disk: nothing leaves it, nothing breaks it, and it can be used by eye and by key."""

import json
import shutil
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

import pytest
from page_browser import SIZES, Opened
from page_study import HOSTILE, LONG, NAME, SECONDS

from avs.report.page import write_page
from avs.report.results import load_results
from avs.report.site import script

RUN = {
    "environment": {"cpu": HOSTILE, "gpus": [], "packages": {"numpy": "2"}},
    "cost": {"p0": {"seconds": 1.25, "peak_mib": {"process": 7, "worker": 9}}},
    "params": {"k": 2, "anchors": {"shift": 0}},
    "looks": "test was looked at 3 times",
    "seconds_figure": "<svg></svg>",
    "seconds_note": "measured",
}


@pytest.fixture(scope="module")
def address(page_study: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Where the page lies, with what differs from run to run beside it."""
    out = tmp_path_factory.mktemp("report") / "avs"
    results = load_results(page_study / "results", page_study / "media")
    write_page(out, results, clips=60, dataset="local", effect="none")
    (out.parent / "run.js").write_text(script("AVS_RUN", RUN | {"results": results.fingerprint}))
    return (out / "index.html").as_uri()


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_it_opens_from_disk_whole_and_within_the_screen(browser: Any, address: str, size: str, theme: str) -> None:
    with Opened(browser, address, size, theme) as page:
        page.until("document.getElementById('audio').readyState >= 1")
        page.until("[...document.images].every(image => image.complete && image.naturalWidth)")
        assert page.tab.evaluate("document.getElementById('audio').duration") == pytest.approx(SECONDS, abs=0.01)
        assert page.tab.evaluate("document.documentElement.scrollWidth") <= SIZES[size]["width"]
        assert page.tab.evaluate("document.body.scrollWidth") <= SIZES[size]["width"]
        folder = address.rsplit("/", 2)[0]
        assert [url for url in page.asked if not url.startswith((folder, "data:,"))] == []
        assert page.said == []
        assert page.tab.evaluate("window.hacked") is None
        assert (page.colour() == "rgb(15, 20, 26)") == (theme == "dark")


def test_names_of_others_are_shown_as_they_are(browser: Any, address: str) -> None:
    with Opened(browser, address) as page:
        label = page.tab.locator("#list li .name", has_text="</script><img").first
        assert label.inner_text() == f"{HOSTILE[:39]}…"
        label.click()
        assert page.tab.locator("#clip-title bdi").first.inner_text().startswith("</script><img src=x onerror=")
        assert NAME[:8] in page.key()
        assert page.tab.locator("#list li .name", has_text="x" * 39).first.inner_text() == f"{LONG[:39]}…"
        assert page.tab.locator("#run-facts td", has_text="</script>").count() == 1
        assert page.tab.locator("img[src=x]").count() == 0
        assert page.tab.evaluate("window.hacked") is None


def test_clips_are_sorted_and_filtered(browser: Any, address: str) -> None:
    with Opened(browser, address) as page:
        everything = page.gains()
        assert len(everything) == 12
        assert everything == sorted(everything, reverse=True)
        page.tab.select_option("#sort", "loss")
        assert page.gains() == sorted(everything)
        page.tab.select_option("#only", "gain")
        assert page.gains() == [gain for gain in sorted(everything) if gain > 0]
        page.tab.select_option("#only", "")
        page.tab.select_option("#class", label="dog")
        assert set(page.tab.locator("#list li .name").all_inner_texts()) == {"dog"}
        page.tab.select_option("#class", "")
        page.tab.select_option("#fallback", "yes")
        assert (
            0 < page.tab.locator("#list li", has_text="fallback").count() == page.tab.locator("#list li").count() < 12
        )
        page.tab.select_option("#fallback", "")
        page.tab.fill("#search", "23-")
        assert page.tab.locator("#list li").count() == 1
        page.tab.fill("#search", "nothing")
        assert page.tab.locator("#count").inner_text() == "No clip fits."
        assert page.said == []


def test_gains_are_those_of_the_rows_and_follow_the_choice_of_arms(
    browser: Any, address: str, page_study: Path
) -> None:
    results = load_results(page_study / "results", page_study / "media")
    with Opened(browser, address) as page:
        for arm, against, measure in (
            ("anchored_topk", "uniform", "accuracy"),
            ("oracle_topk", "random_topk", "class_event"),
        ):
            page.tab.select_option("#arm", arm)
            page.tab.select_option("#against", against)
            page.tab.select_option("#measure", "answers" if measure == "accuracy" else "foreground")
            difference = [results.metrics["arms"][name][measure]["mean"] for name in (arm, against)]
            mean = 100 * (difference[0] - difference[1])
            shown = page.tab.locator("#count").inner_text().split("mean gain ")[1].split(" ")[0]
            assert float(shown.replace("−", "-")) == pytest.approx(mean, abs=0.051)


def test_keys_move_play_and_help(browser: Any, address: str) -> None:
    with Opened(browser, address) as page:
        first = page.key()
        page.tab.keyboard.press("ArrowRight")
        second = page.key()
        assert second != first
        assert page.tab.evaluate("decodeURIComponent(location.hash)") == f"#clip={second}"
        page.tab.keyboard.press("ArrowLeft")
        assert page.key() == first
        page.tab.locator("#list").focus()
        page.tab.keyboard.press("End")
        assert page.tab.locator("#list li").last.get_attribute("aria-selected") == "true"
        page.tab.locator("#clip-title").scroll_into_view_if_needed()
        page.tab.keyboard.press(" ")
        page.until("!document.getElementById('audio').paused")
        page.until("document.getElementById('audio').currentTime > 0.1")
        page.tab.keyboard.press(" ")
        page.until("document.getElementById('audio').paused")
        page.tab.keyboard.press("?")
        assert page.tab.locator("#keys").is_visible()
        page.tab.keyboard.press("Escape")
        assert not page.tab.locator("#keys").is_visible()
        page.tab.keyboard.press("/")
        page.tab.keyboard.type("?1-")
        assert page.tab.input_value("#search") == "?1-"
        assert page.said == []


def test_the_playhead_follows_the_sound(browser: Any, address: str) -> None:
    with Opened(browser, address) as page:
        page.until("document.getElementById('audio').readyState >= 1")
        page.tab.evaluate("document.getElementById('audio').currentTime = 2.5")
        page.until("document.querySelector('.second[aria-current]').dataset.second === '2'")
        assert page.tab.locator("#now").inner_text().startswith("Second 2: event")
        left = page.tab.evaluate("parseFloat(document.querySelector('#playhead i').style.left)")
        assert left == pytest.approx(100 * 2.5 / SECONDS, abs=1)


def test_frames_are_drawn_as_they_were_seen(browser: Any, address: str, page_study: Path) -> None:
    rows = [json.loads(line) for line in (page_study / "results/p0/per_clip.jsonl").read_text().splitlines()]
    row = next(row for row in rows if row["anchors"])
    (anchor,) = row["anchors"]
    with Opened(browser, f"{address}#clip={row['clip'].replace('%', '%25')}") as page:
        assert page.key() == row["clip"]
        assert page.tab.locator("#seen-arm-text").inner_text().endswith("272 × 272")
        assert page.tab.locator("#seen-against-text").inner_text().endswith("208 × 208")
        page.until("document.getElementById('seen-arm').width === 272")
        widths = page.tab.eval_on_selector_all("#timeline .frame img", "all => all.map(one => one.style.width)")
        assert widths[anchor] == "100%"
        assert sorted(set(row["plans"]["anchored_topk"])) == [112, 208, 272]
        pixels = page.tab.locator("#timeline .resolution").all_inner_texts()
        assert pixels == [str(r) for arm in ("anchored_topk", "uniform") for r in row["plans"][arm]]
        page.tab.check("#every")
        assert page.tab.locator("#timeline .answer").count() == SECONDS * len(row["answers"])


def test_the_theme_can_be_chosen_and_what_differs_between_runs_is_told(browser: Any, address: str) -> None:
    with Opened(browser, address, "phone") as page:
        before = page.colour()
        page.tab.click("#theme")
        assert page.colour() != before
        page.tab.reload()
        assert page.colour() != before
        facts = page.tab.locator("#run-facts").inner_text()
        assert "1.3" in facts or "1.2" in facts
        assert page.tab.locator("#looks").inner_text() == "test was looked at 3 times"
        assert page.tab.locator("#seconds").is_visible()


def test_a_page_without_its_run_says_so(browser: Any, address: str, tmp_path: Path) -> None:
    shutil.copytree(Path(unquote(urlparse(address).path)).parent, tmp_path / "avs")
    address = (tmp_path / "avs/index.html").as_uri()
    with Opened(browser, address) as page:
        assert "it is not here" in page.tab.locator("#run-facts").inner_text()
        assert page.tab.locator("#list li").count() == 12
    (tmp_path / "run.js").write_text(script("AVS_RUN", RUN | {"results": "another"}))
    with Opened(browser, address) as page:
        assert "not those of the run described here" in page.tab.locator("#run-facts").inner_text()
        assert not page.tab.locator("#seconds").is_visible()
