"""The speech page in a browser, from disk: texts as they are, lips and sounds in step, filters, marks and keys."""

import math
from collections import Counter
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from page_browser import SIZES, Opened
from page_study import HOSTILE
from PIL import Image
from speech_study import CLIPS, FRAMES, HOSTILE_KEY, KEPT, MODELS, mouths

from avs.report.site import script
from avs.report.speech_page import RUN, write_speech_page
from avs.report.speech_results import SpeechResults, load_speech

WITHOUT = """(node, out) => {
    const copy = node.cloneNode(true);
    for (const part of copy.querySelectorAll(out)) part.remove();
    return copy.textContent;
}"""


@pytest.fixture(scope="module")
def results(speech_study: Path) -> SpeechResults:
    return load_speech(speech_study / "results", speech_study / "media")


@pytest.fixture(scope="module")
def address(results: SpeechResults, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Where the page lies, with what differs from run to run beside it."""
    out = tmp_path_factory.mktemp("report") / "avsr"
    write_speech_page(out, results, clips=60)
    run = {"results": results.fingerprint, "environment": {"cpu": HOSTILE}, "cost": {}, "params": {"k": 2}}
    (out.parent / RUN).write_text(script("AVS_RUN", run))
    return (out / "index.html").as_uri()


def listed(page: Opened) -> list[int]:
    """The errors of the clips in the list."""
    texts = page.tab.locator("#list li > span:nth-child(2)").all_inner_texts()
    return [int(text.split()[1].split("/")[0]) for text in texts]


def frame(page: Opened) -> int:
    return int(page.tab.get_attribute("#lips", "data-frame") or -1)


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_it_opens_from_disk_whole_and_within_the_screen(browser: Any, address: str, size: str, theme: str) -> None:
    with Opened(browser, address, size, theme) as page:
        page.until("document.getElementById('audio').readyState >= 1")
        page.until("document.getElementById('lips').dataset.frame === '0'")
        duration = page.tab.evaluate("document.getElementById('audio').duration")
        assert duration == pytest.approx(FRAMES / 25, abs=0.01)
        for element in ("documentElement", "body"):
            assert page.tab.evaluate(f"document.{element}.scrollWidth") <= SIZES[size]["width"]
        folder = address.rsplit("/", 2)[0]
        assert [url for url in page.asked if not url.startswith((folder, "data:,"))] == []
        assert page.said == []
        assert page.tab.evaluate("window.hacked") is None
        assert (page.colour() == "rgb(15, 20, 26)") == (theme == "dark")


def test_texts_of_others_are_shown_as_they_are_wherever_they_stand(browser: Any, address: str) -> None:
    with Opened(browser, address) as page:
        for place in range(CLIPS):
            page.tab.locator("#list li").nth(place).click()
        page.tab.fill("#search", HOSTILE_KEY)
        assert page.tab.locator("#list li").count() == 1
        assert page.tab.locator("#clip-title bdi").nth(1).inner_text() == HOSTILE_KEY
        page.tab.evaluate("document.getElementById('audio').currentTime = 0.3")
        page.until("document.querySelector('#now bdi').textContent.startsWith('</script><img')")
        page.tab.fill("#search", "</script>")
        page.tab.locator("#list li", has_text="</script>").first.click()
        assert page.tab.locator("#reference").inner_text().startswith("</script><img src=x onerror=")
        assert page.tab.locator("#run-facts td", has_text="</script>").count() == 1
        assert page.tab.locator("img").count() == 0
        assert page.tab.evaluate("window.hacked") is None
        assert page.said == []


def test_clips_are_sorted_and_filtered_by_condition_and_errors(
    browser: Any, address: str, results: SpeechResults
) -> None:
    with Opened(browser, address) as page:
        assert page.tab.input_value("#condition") == "snr_0"  # the first with sounds
        for condition, model in (("snr_0", "av"), ("talker_0_same", "video")):
            page.tab.select_option("#condition", condition)
            page.tab.select_option("#model", model)
            rows = [row for row in results.answers if (row.condition, row.model) == (condition, model)]
            page.tab.select_option("#sort", "most")
            assert listed(page) == sorted((row.errors for row in rows), reverse=True)
            page.tab.select_option("#sort", "fewest")
            assert listed(page) == sorted(row.errors for row in rows)
            share = 100 * results.metrics["wer"][model][condition]["wer"]
            words = sum(row.words for row in rows)
            assert page.tab.locator("#count").inner_text() == f"9 of 9 clips, {share:.1f} % of {words} words wrong"
            page.tab.select_option("#only", "wrong")
            assert Counter(listed(page)) == Counter(row.errors for row in rows if row.errors)
            page.tab.select_option("#only", "sound")
            assert len(listed(page)) == (KEPT if condition == "snr_0" else 0)
            page.tab.select_option("#only", "")
        page.tab.fill("#search", "nothing like it")
        assert page.tab.locator("#count").inner_text() == "No clip fits."
        assert page.said == []


def test_what_was_understood_is_marked_by_more_than_colour(browser: Any, address: str, results: SpeechResults) -> None:
    with Opened(browser, f"{address}#clip=s1-clip5") as page:
        page.tab.select_option("#condition", "snr_-5")
        rows = page.tab.locator("#answers tbody tr")
        assert rows.count() == len(MODELS)
        kinds = set()
        for place, model in enumerate(MODELS):
            (answer,) = [
                row for row in results.answers if (row.clip, row.condition, row.model) == ("s1-clip5", "snr_-5", model)
            ]
            assert rows.nth(place).locator("td").first.inner_text() == f"{answer.errors}/{answer.words}"
            cell = rows.nth(place).locator("td.text")
            assert cell.locator(".edit").count() == answer.errors
            kinds |= set(cell.locator(".edit").evaluate_all("all => all.map(e => e.classList[1])"))
            assert cell.evaluate(WITHOUT, "del, .unseen").split() == answer.hypothesis.split()
            assert cell.evaluate(WITHOUT, "ins, .unseen").split() == answer.reference.split()
        assert kinds == {"s", "d", "i"}
        for kind, told in (("s", "instead of"), ("d", "left out:"), ("i", "put in:")):
            assert page.tab.locator(f"#answers .edit.{kind} .unseen").first.text_content().startswith(told)
        style = "e => getComputedStyle(e).textDecorationLine"
        assert page.tab.locator("#answers del").first.evaluate(style) == "line-through"
        assert page.tab.locator("#answers ins").first.evaluate(style) == "underline"


def test_lips_play_in_step_and_each_sound_goes_on_where_the_other_was(browser: Any, address: str) -> None:
    with Opened(browser, f"{address}#clip=s1-clip2") as page:
        audio = "document.getElementById('audio')"
        page.until(f"{audio}.readyState >= 2")
        names = page.tab.locator("#sounds label").all_inner_texts()
        assert names == ["mixture", "SEANet's output", "clean voice"]
        page.tab.locator("#clip-title").scroll_into_view_if_needed()
        page.tab.keyboard.press(" ")
        page.until(f"{audio}.currentTime > 0.2")
        page.until("Number(document.getElementById('lips').dataset.frame) >= 4")
        page.until(f"{audio}.ended")
        page.tab.evaluate(f"{audio}.currentTime = 0.5")
        page.until("document.getElementById('lips').dataset.frame === '12'")
        for key, name in (("2", "seanet-0.wav"), ("3", "clean.wav"), ("1", "mixture-0.wav")):
            page.tab.keyboard.press(key)
            assert page.tab.evaluate(f"{audio}.src").endswith(name)
            page.until(f"{audio}.readyState >= 1 && !{audio}.seeking")
            assert math.floor(25 * page.tab.evaluate(f"{audio}.currentTime") + 1e-3) == frame(page) == 12
        page.tab.keyboard.press(".")
        page.until("document.getElementById('lips').dataset.frame === '13'")
        seen = Image.open(BytesIO(page.tab.locator("#lips").screenshot())).convert("L").resize((96, 96))
        off = np.abs(np.asarray(seen, int) - mouths(len("s1-clip2"))).mean(axis=(1, 2))
        assert off.argmin() == 13
        page.tab.keyboard.press(",")
        page.until("document.getElementById('lips').dataset.frame === '12'")
        assert page.said == []


def test_the_conditions_of_a_clip_are_chosen_in_its_table_and_keys_move(browser: Any, address: str) -> None:
    with Opened(browser, address, "phone") as page:
        page.tab.locator("#list").focus()
        page.tab.keyboard.press("End")
        last = page.key()
        assert page.tab.locator("#list li").last.get_attribute("aria-selected") == "true"
        page.tab.locator("#overview button", has_text="own voice").click()
        assert page.tab.input_value("#condition") == "talker_0_same"
        assert page.key() == last
        assert page.tab.evaluate("document.activeElement.getAttribute('aria-pressed')") == "true"
        assert "was not kept" in page.tab.locator("#absent").inner_text()
        assert page.tab.locator("#sounds label").all_inner_texts() == ["clean voice"]
        page.tab.locator("#overview button", has_text="clean").click()
        assert page.tab.locator("#absent").inner_text() == ""
        page.tab.keyboard.press("?")
        assert page.tab.locator("#keys").is_visible()
        assert page.said == []
