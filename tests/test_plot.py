"""Plots of any numbers: well-formed SVG, finite coordinates, few round ticks."""

import datetime
import math
import re
import uuid
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from drifts.verdict import Verdict
from pages.plots.chart import AxisScale, Chart, Kind, format_value
from pages.plots.plot import CHARACTER, WIDTH, Axis, inside, x_axis
from pages.plots.points import COUNT, TIME, NotDrawn, Point, placed
from pages.plots.scales import GREATEST, MAX_TICKS, UTC, LinearScale, LogScale, Scale, TimeScale
from pages.plots.svg import element
from tests.filter_pairs import reproducible

FLOATS = st.floats(allow_nan=False, allow_infinity=False)
POSITIVE = st.floats(min_value=0, exclude_min=True, allow_infinity=False)
# Seconds of the years 1 to 9999, and beyond.
TIMES = st.floats(-7e10, 3e11)
SVG = "{http://www.w3.org/2000/svg}"


def labels(scale: Scale) -> list[str]:
    return [tick.label.replace("\N{MINUS SIGN}", "-") for tick in scale.ticks]


def tree(svg: str) -> ET.Element:
    return ET.fromstring(svg)  # noqa: S314 - it was just made here


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0, 1], ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
        ([3, 97], ["0", "20", "40", "60", "80", "100"]),
        ([-0.003, 0.004], ["-0.004", "-0.002", "0.000", "0.002", "0.004"]),
        ([1_200, 9_900], ["0", "2,000", "4,000", "6,000", "8,000", "10,000"]),
        ([1e-9, 9e-9], ["0", "2e-9", "4e-9", "6e-9", "8e-9", "1e-8"]),
        ([5, 5], ["4.4", "4.6", "4.8", "5.0", "5.2", "5.4", "5.6"]),
        ([0, 0], ["-1.0", "-0.5", "0.0", "0.5", "1.0"]),
    ],
)
def test_ticks_of_a_linear_axis_are_round_and_enclose_the_values(values: list[float], expected: list[str]) -> None:
    assert labels(LinearScale(values)) == expected


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.02, 30], ["0.01", "0.1", "1", "10", "100"]),
        ([1, 9], ["1", "2", "5", "10"]),
        ([3, 3], ["2", "5"]),
        ([10, 10], ["10", "20"]),
        ([1e-12, 1], ["1e-12", "1e-10", "1e-8", "1e-6", "0.0001", "0.01", "1"]),
    ],
)
def test_ticks_of_a_logarithmic_axis_are_powers_of_ten_or_parts_of_them(
    values: list[float], expected: list[str]
) -> None:
    assert labels(LogScale(values)) == expected


@pytest.mark.parametrize(
    ("hours", "expected"),
    [
        (0.01, ["5 Mar 10:00:10", "5 Mar 10:00:20"]),
        (3, ["5 Mar 10:00", "5 Mar 10:30"]),
        (24 * 5, ["6 Mar 2026", "7 Mar 2026"]),
        (24 * 150, ["1 Apr 2026", "1 May 2026"]),
        (24 * 365 * 4, ["2027", "2028"]),
    ],
)
def test_ticks_of_time_are_those_of_the_calendar(hours: float, expected: list[str]) -> None:
    start = datetime.datetime(2026, 3, 5, 10, tzinfo=UTC).timestamp()
    found = labels(TimeScale([start, start + hours * 3600]))
    expected = [label.removeprefix("1 ") for label in expected]
    assert [label for label in found if label in expected] == expected
    assert 3 <= len(found) <= MAX_TICKS


@reproducible
@given(st.lists(FLOATS, min_size=1, max_size=5))
def test_any_numbers_have_a_linear_axis(values: list[float]) -> None:
    holds(LinearScale(values), values)


@reproducible
@given(st.lists(POSITIVE, min_size=1, max_size=5))
def test_any_numbers_above_zero_have_a_logarithmic_axis(values: list[float]) -> None:
    holds(LogScale(values), values)


@reproducible
@given(st.lists(TIMES, min_size=1, max_size=5))
def test_any_times_have_an_axis(values: list[float]) -> None:
    holds(TimeScale(values), values)


def holds(scale: Scale, values: list[float]) -> None:
    ticks = scale.ticks
    assert all(-1e-9 <= scale.place(value) <= 1 + 1e-9 for value in values)
    assert all(-1e-6 <= tick.place <= 1 + 1e-6 for tick in ticks)
    assert len(ticks) <= MAX_TICKS
    assert len({tick.label for tick in ticks}) == len(ticks)


def point(x: float, y: float, verdict: Verdict = Verdict.DRIFT, model: str = "forest") -> Point:
    return Point(uuid.uuid4(), datetime.datetime(2026, 3, 5, tzinfo=UTC), model, verdict, False, None, None, x, y)


def chart(points: list[Point], **options: Any) -> Chart:
    defaults = {"x": "parameters.a", "y": "parameters.b", "kind": Kind.SCATTER, "fit": True}
    scales = {"x_scale": AxisScale.LINEAR, "y_scale": AxisScale.LINEAR}
    return Chart({**defaults, **scales, **options}, points, lambda run: f"/runs/{run}")


def numbers_in(svg: str) -> list[float]:
    """The coordinates: every number of an attribute that places an element."""
    placing = {"x", "y", "x1", "x2", "y1", "y2", "width", "height", "d", "points", "transform"}
    texts = [text for each in tree(svg).iter() for name, text in each.items() if name in placing]
    assert not any(re.search("nan|inf|e[+-]?[0-9]", text) for text in texts)
    return [float(number) for text in texts for number in re.findall(r"-?[0-9]+\.?[0-9]*", text)]


@reproducible
@given(
    st.lists(st.tuples(FLOATS, FLOATS, st.sampled_from(Verdict)), min_size=1, max_size=6),
    st.sampled_from(Kind),
    st.tuples(st.sampled_from(AxisScale), st.sampled_from(AxisScale)),
)
@example([(GREATEST, GREATEST, Verdict.DRIFT)], Kind.BAR, (AxisScale.LINEAR, AxisScale.LINEAR))
@example([(1.0, GREATEST, Verdict.DRIFT)] * 5, Kind.BAR, (AxisScale.LINEAR, AxisScale.LOG))
@example([(-GREATEST, 5e-324, Verdict.DRIFT), (GREATEST, 1.0, Verdict.DRIFT)], Kind.LINE, (AxisScale.LINEAR,) * 2)
def test_any_numbers_make_a_picture_with_finite_coordinates(
    numbers: list[tuple[float, float, Verdict]], kind: Kind, scales: tuple[AxisScale, AxisScale]
) -> None:
    is_log = [scale == AxisScale.LOG for scale in scales]
    points = [
        point(x, y, verdict) for x, y, verdict in numbers if (x > 0 or not is_log[0]) and (y > 0 or not is_log[1])
    ]
    if points:
        picture = chart(points, kind=kind, x_scale=scales[0], y_scale=scales[1]).picture
        assert all(-1_000 <= number <= 2_000 for number in numbers_in(picture.alone))
        tree(picture.inline)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 10**400, "missing", "null", "string", "array"])
def test_values_that_are_not_numbers_are_not_drawn(value: Any) -> None:
    with pytest.raises(NotDrawn, match=r"parameters\.a "):
        placed(value, "parameters.a", is_log=False)


def test_an_integer_of_300_digits_is_drawn_and_zero_is_not_on_a_logarithmic_axis() -> None:
    assert placed(10**300, "parameters.a", is_log=False) == 1e300
    with pytest.raises(NotDrawn, match="not above 0, as a log scale needs"):
        placed(0, "parameters.a", is_log=True)


def test_values_are_rounded_and_zero_has_no_sign() -> None:
    assert [format_value(value, "parameters.p") for value in (1 / 3, -0.0, -1e-300)] == ["0.333333", "0", "-1e-300"]


def test_a_verdict_has_a_shape_a_class_a_tooltip_and_a_link_of_its_own() -> None:
    drawn = chart([point(1, 1, Verdict.DRIFT), point(2, 2, Verdict.NO_DRIFT), point(3, 3, Verdict.UNKNOWN)]).picture
    links = tree(drawn.alone).findall(f".//{SVG}a")
    assert [link.get("tabindex") for link in links] == ["-1"] * 3
    marks = [link[0] for link in links]
    assert [mark.get("class") for mark in marks] == ["drift", "no_drift", "unknown"]
    shapes = [re.sub("[0-9. -]", "", str(mark.get("d"))) for mark in marks]
    assert len(set(shapes)) == 3
    assert marks[0].findtext(f"{SVG}title") == "forest, 2026-03-05 00:00 UTC: Drift\nx = 1\ny = 1"


def test_texts_are_escaped_and_characters_invalid_in_xml_replaced() -> None:
    model = '<script>alert("1")</script>\x01&amp;'
    drawn = chart([point(1, 1, model=model)], x='parameters.<b>"').picture
    for svg in (drawn.alone, drawn.inline):
        assert "<script" not in svg
        assert "<b>" not in svg
    titles = [title.text for title in tree(drawn.alone).iter(f"{SVG}title")]
    assert any(str(title).startswith(model.replace("\x01", "\ufffd")) for title in titles)


def test_a_file_carries_its_colours_and_a_page_has_no_style() -> None:
    drawn = chart([point(1, 1)]).picture
    style = str(tree(drawn.alone).findtext(f"{SVG}style"))
    assert "#b3261e" in style
    assert "var(" not in style
    assert "style" not in drawn.inline


def test_bars_hold_each_run_once_and_stack_the_verdicts() -> None:
    points = [point(x, 0, verdict) for x in range(100) for verdict in (Verdict.DRIFT, Verdict.NO_DRIFT)]
    drawn = chart(points, kind=Kind.BAR, y=COUNT, fit=False)
    assert sum(len(each.points) for each in drawn.bins) == 200
    assert 10 <= len(drawn.bins) <= 30
    rectangles = tree(drawn.picture.alone).findall(f".//{SVG}rect")
    assert {each.get("class") for each in rectangles} == {None, "drift", "no_drift"}


def test_bars_of_a_parameter_show_its_means() -> None:
    points = [point(x, y) for x, y in [(0, 1), (0, 3), (10, 10), (10, 20)]]
    drawn = chart(points, kind=Kind.BAR, fit=False)
    svg = str(drawn.picture.alone)
    assert "mean of y = 2, of 2 runs" in svg
    assert "mean of y = 15, of 2 runs" in svg
    assert "Mean of b" in svg
    assert "Drift (" not in svg


def test_a_line_goes_from_the_least_x_to_the_greatest() -> None:
    drawn = chart([point(3, 1), point(1, 2), point(2, 3)], kind=Kind.LINE, fit=False).picture
    thread = tree(drawn.alone).find(f".//{SVG}polyline")
    assert thread is not None
    across = [float(place.split(",")[0]) for place in str(thread.get("points")).split()]
    assert across == sorted(across)


@reproducible
@given(FLOATS, FLOATS)
def test_only_the_part_of_a_fitted_line_inside_the_plot_is_drawn(left: float, right: float) -> None:
    ends = inside(left, right)
    if ends:
        assert 0 <= ends[0] <= ends[1] <= 1
    if 0 <= left <= 1 and 0 <= right <= 1:
        assert ends == pytest.approx((0, 1))


@pytest.mark.parametrize("axis", ["x", "y"])
def test_time_can_be_an_axis(axis: str) -> None:
    start = datetime.datetime(2026, 3, 5, tzinfo=UTC).timestamp()
    days = [start, start + 86_400, start + 2 * 86_400]
    points = [point(day, number) if axis == "x" else point(number, day) for number, day in enumerate(days, 1)]
    drawn = chart(points, **{axis: TIME})
    assert drawn.line
    assert drawn.line.formula.replace("\N{MINUS SIGN}", "-") == ("y = 1 + 1·days" if axis == "x" else "days = -1 + 1·x")
    assert "days since 2026-03-05 00:00:00 UTC" in drawn.line.meaning
    assert "Time (UTC)" in drawn.picture.alone


@pytest.mark.parametrize("left", [52, 180])
@pytest.mark.parametrize("last", range(4, 12))
def test_a_label_at_an_end_of_an_axis_is_within_the_picture(left: int, last: int) -> None:
    start = datetime.datetime(2026, 11, 28, 20, 20, 28, tzinfo=UTC).timestamp()
    axis = tree(x_axis(Axis("Time", TimeScale([start, start + last])), left, 400))
    texts = [(float(text.attrib["x"]), str(text.text)) for text in axis.iter("text")]
    assert len(texts) > 2
    for x, text in texts:
        assert CHARACTER * len(text) / 2 <= x <= WIDTH - CHARACTER * len(text) / 2


def test_an_element_without_a_value_leaves_the_attribute_out() -> None:
    assert element("text", "a<b", class_="title", stroke_width=1.50, x=None) == (
        '<text class="title" stroke-width="1.5">a&lt;b</text>'
    )
