from xml.etree import ElementTree

from bench.chart import SCALE_MAX, svg
from bench.report import Ratio

SVG = "{http://www.w3.org/2000/svg}"


def ratio(title: str, *values: float, budget: float = 0.0) -> Ratio:
    return Ratio("case", title, "dragoman", "request", 1.0, 1.0, values, budget)


def bars(picture: str) -> list[tuple[float, str]]:
    rects = ElementTree.fromstring(picture).findall(f"{SVG}rect")[1:]  # the first is the background
    return [(float(rect.attrib["width"]), rect.attrib["fill"]) for rect in rects]


def test_a_bar_is_as_long_as_its_median_and_its_colour_is_the_verdict() -> None:
    picture = svg([ratio("a", 1.0, 1.2, 1.1, budget=1.5), ratio("b", 2.2, budget=1.5), ratio("c", 2.2)], "today")
    fine, over, plain = bars(picture)
    assert over[0] == plain[0] == 2 * fine[0]
    assert len({fine[1], over[1], plain[1]}) == 3


def test_a_bar_beyond_the_scale_is_cut_but_says_its_number() -> None:
    picture = svg([ratio("slow", 120.0), ratio("at the end", SCALE_MAX)], "today")
    slow, end = bars(picture)
    assert slow == end
    assert "120.00" in picture


def test_text_cannot_break_the_picture() -> None:
    texts = [node.text for node in ElementTree.fromstring(svg([ratio("<a & b>", 1.0)], "<&>")).iter(f"{SVG}text")]
    assert "<a & b>, dragoman" in texts
    assert "<&>" in texts
