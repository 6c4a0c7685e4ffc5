from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

from marrowscope.report.plot import Drawing, Panel, number, ticks


def root_of(drawing: Drawing) -> ET.Element:
    return ET.fromstring(drawing.standalone())  # noqa: S314 - our own text


def test_drawing_is_well_formed_whatever_its_words() -> None:
    drawing = Drawing(100, 50, 'a "quoted" <label> & more')
    drawing.text(1, 2, "</svg><script>", "ink")
    drawing.mark(5, 5, "circle", "dot a", 'P"1 <b>')
    root = root_of(drawing)
    assert root.attrib["aria-label"] == 'a "quoted" <label> & more'
    assert root.attrib["role"] == "img"
    names = [element.tag.split("}")[-1] for element in root.iter()]
    assert "script" not in names
    assert [element.text for element in root.iter() if element.tag.endswith("title")] == ['P"1 <b>']


def test_only_the_file_of_its_own_carries_style() -> None:
    drawing = Drawing(100, 50, "label")
    assert "<style>" in drawing.standalone()
    assert "<style>" not in drawing.inline()
    assert "prefers-color-scheme: dark" in drawing.standalone()


def test_scales_place_the_ends_at_the_edges_and_large_values_up() -> None:
    panel = Panel(Drawing(200, 200, ""), 10, 20, 100, 50, (0.0, 2.0), (-1.0, 1.0))
    assert (panel.x(0), panel.x(2)) == (10, 110)
    assert (panel.y(-1), panel.y(1), panel.y(0)) == (70, 20, 45)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (-0.25, 0.25, [-0.2, -0.1, 0, 0.1, 0.2]),
        (0, 0.1, [0, 0.02, 0.04, 0.06, 0.08, 0.1]),
        (3, 47, [10, 20, 30, 40]),
    ],
)
def test_ticks_are_round_and_inside(low: float, high: float, expected: list[float]) -> None:
    assert ticks(low, high) == pytest.approx(expected)


def test_axes_name_both_sides_and_give_percent_when_asked() -> None:
    drawing = Drawing(200, 200, "")
    Panel(drawing, 50, 10, 100, 100).axes("across", "up", percent=True)
    words = [element.text for element in root_of(drawing).iter() if element.tag.endswith("text")]
    assert {"across", "up", "0%", "100%"} <= set(words)


def test_interval_has_ends_across_its_direction() -> None:
    drawing = Drawing(100, 100, "")
    drawing.whisker(10, 20, 30, 20, "a")
    drawing.whisker(10, 20, 10, 40, "a")
    level, upright = (element.attrib["d"] for element in root_of(drawing).iter() if element.tag.endswith("path"))
    assert level == "M10,20L30,20M10,16.5L10,23.5M30,16.5L30,23.5"
    assert upright == "M10,20L10,40M6.5,20L13.5,20M6.5,40L13.5,40"


@pytest.mark.parametrize("shape", ["circle", "square", "diamond"])
def test_shapes_differ(shape: str) -> None:
    drawing = Drawing(100, 100, "")
    drawing.mark(50, 50, shape, "dot")
    element = next(iter(root_of(drawing).iter()))
    tags = {child.tag.split("}")[-1] for child in element}
    assert {"circle": "circle", "square": "rect", "diamond": "polygon"}[shape] in tags


def test_numbers_have_at_most_one_decimal() -> None:
    assert [number(value) for value in (1.0, 1.26, -0.04, 3)] == ["1", "1.3", "-0", "3"]


def test_ticks_of_epochs_are_whole_numbers() -> None:
    assert ticks(1, 3, least_step=1.0) == [1, 2, 3]
    assert ticks(0.5, 1.5, least_step=1.0) == [1]
    assert ticks(1, 3) == [1, 1.5, 2, 2.5, 3]
