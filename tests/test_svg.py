import re

import pytest
from lxml import etree
from matplotlib.figure import Figure

from avs.report.svg import ACCENT, DARK, LIGHT, alone, spread_apart, style, to_svg


def drawn(name: str) -> str:
    with style():
        figure = Figure(figsize=(3, 2))
        axes = figure.subplots()
        axes.plot([0, 1], [0, 1], color=ACCENT)
        axes.grid()
    return to_svg(figure, name, "a line")


def test_it_is_the_same_each_time_and_holds_no_date() -> None:
    assert drawn("a") == drawn("a")
    assert not re.search(r"20\d\d-", drawn("a"))


def test_two_figures_share_a_page() -> None:
    ids = [set(re.findall(r' id="([^"]+)"', drawn(name))) for name in ("a", "b")]
    assert ids[0]
    assert not ids[0] & ids[1]
    tree = etree.fromstring(drawn("a").encode())
    used = {ref[1:] for ref in tree.xpath("//@*[local-name()='href']")} | set(re.findall(r"url\(#([^)]+)", drawn("a")))
    assert used == ids[0]


def test_colours_are_those_of_the_page() -> None:
    text = drawn("a")
    assert "stroke: var(--accent)" in text
    assert "#04" not in text
    assert LIGHT.keys() == DARK.keys()
    assert 'aria-label="a line"' in text
    for theme in (LIGHT, DARK):
        assert theme["ink"] in alone(text)


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ([0.0, 10.0, 5.0], [0.0, 10.0, 5.0]),
        ([5.0, 5.0], [4.5, 5.5]),
        ([5.2, 5.0, 5.1], [6.1, 4.1, 5.1]),
        ([0.0, 0.5, 1.5], [-1 / 3, 2 / 3, 5 / 3]),
        ([], []),
    ],
)
def test_labels_are_pushed_apart_no_more_than_needed(values: list[float], wanted: list[float]) -> None:
    assert spread_apart(values, 1.0) == pytest.approx(wanted)
