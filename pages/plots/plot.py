"""Plots: marks between two axes, drawn as SVG. Marks link to their runs; classes give them their colours."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from django.utils.safestring import SafeString

from drifts.verdict import Verdict
from pages.plots.scales import Scale
from pages.plots.svg import element

WIDTH, HEIGHT = 960, 480
TOP, RIGHT, BOTTOM = 44, 28, 64
# The average width of a character in labels, in pixels.
CHARACTER = 7.2
LABELS = {verdict: verdict.label for verdict in Verdict}
MAX_TITLE = 90


@dataclass(frozen=True)
class Axis:
    title: str
    scale: Scale


@dataclass(frozen=True)
class Mark:
    """The mark of one run in the plot, with its explanation and the address of the run."""

    x: float
    y: float
    verdict: Verdict
    explanation: str
    address: str


@dataclass(frozen=True)
class Segment:
    """A part of a bar, between two values of each axis. `verdict` is None for a part of several verdicts."""

    left: float
    right: float
    bottom: float
    top: float
    verdict: Verdict | None
    explanation: str


class Plot:
    """The area between the axes."""

    def __init__(self, x: Axis, y: Axis) -> None:
        self.x, self.y = x, y
        self.left = 52 + CHARACTER * max((len(tick.label) for tick in y.scale.ticks), default=0)
        self.right, self.top, self.bottom = WIDTH - RIGHT, TOP, HEIGHT - BOTTOM

    def across(self, value: float) -> float:
        """The distance of a value on the x axis from the left, in pixels."""
        return self.left + self.x.scale.place(value) * (self.right - self.left)

    def down(self, value: float) -> float:
        """The distance of a value on the y axis from the top, in pixels."""
        return self.bottom - self.y.scale.place(value) * (self.bottom - self.top)

    def axes(self) -> SafeString:
        return element("g", x_axis(self.x, self.left, self.bottom), *self._y_axis())

    def _y_axis(self) -> Iterable[SafeString]:
        for tick in self.y.scale.ticks:
            y = self.bottom - tick.place * (self.bottom - self.top)
            yield element("line", class_="grid", x1=self.left, x2=self.right, y1=y, y2=y)
            yield element("text", tick.label, x=self.left - 10, y=y + 4.5, text_anchor="end")
        yield element("line", class_="axis", x1=self.left, x2=self.left, y1=self.top, y2=self.bottom)
        turned = f"rotate(-90 20 {(self.top + self.bottom) / 2})"
        middle = (self.top + self.bottom) / 2
        title = shortened(self.y.title, MAX_TITLE // 2)
        yield element("text", title, class_="title", x=20, y=middle, transform=turned, text_anchor="middle")

    def marks(self, marks: Sequence[Mark]) -> SafeString:
        """The marks of runs. The more there are, the smaller they are."""
        radius = 5.5 if len(marks) <= 200 else 4.0 if len(marks) <= 1_000 else 3.0
        return element("g", *(linked(mark, self.across(mark.x), self.down(mark.y), radius) for mark in marks))

    def connecting_line(self, marks: Sequence[Mark]) -> SafeString:
        """A line from one run to the next, from left to right."""
        ordered = sorted(marks, key=lambda mark: mark.x)
        places = " ".join(f"{self.across(mark.x):.2f},{self.down(mark.y):.2f}" for mark in ordered)
        return element("polyline", class_="thread", points=places)

    def bars(self, segments: Sequence[Segment]) -> SafeString:
        return element("g", *map(self._segment, segments))

    def _segment(self, segment: Segment) -> SafeString:
        left, right = self.across(segment.left), self.across(segment.right)
        gap = min(1.5, (right - left) / 8)
        top, bottom = sorted((self.down(segment.bottom), self.down(segment.top)))
        return element(
            "rect",
            element("title", segment.explanation),
            class_=segment.verdict.value if segment.verdict else "bar",
            x=left + gap,
            width=max(right - left - 2 * gap, 0.5),
            y=top,
            height=max(bottom - top, 0.5),
        )

    def straight_line(self, at_left: float, at_right: float) -> SafeString | None:
        """The part of a line inside the plot, or None. Takes its places on the y axis at both ends of the x axis."""
        ends = inside(at_left, at_right)
        if ends is None:
            return None
        (x1, y1), (x2, y2) = (
            (self.left + part * (self.right - self.left), self.bottom - place * (self.bottom - self.top))
            for part, place in ((part, at_left * (1 - part) + at_right * part) for part in ends)
        )
        return element("line", class_="fit", x1=x1, y1=y1, x2=x2, y2=y2)


def x_axis(axis: Axis, left: float, bottom: float) -> SafeString:
    """The x axis below a plot, with a grid line up from each tick. `left` and `bottom` are in pixels."""
    right, middle = WIDTH - RIGHT, (left + WIDTH - RIGHT) / 2
    drawn = []
    for tick in axis.scale.ticks:
        x = left + tick.place * (right - left)
        drawn.append(element("line", class_="grid", x1=x, x2=x, y1=TOP, y2=bottom))
        # A long label at an end of the axis is not centred on its tick, because the picture would cut it off.
        half = CHARACTER * len(tick.label) / 2
        drawn.append(
            element("text", tick.label, x=min(max(x, half), WIDTH - half), y=bottom + 22, text_anchor="middle")
        )
    line = element("line", class_="axis", x1=left, x2=right, y1=bottom, y2=bottom)
    title = element("text", shortened(axis.title), class_="title", x=middle, y=bottom + 50, text_anchor="middle")
    return element("g", *drawn, line, title)


def inside(at_left: float, at_right: float) -> tuple[float, float] | None:
    """The two places on the x axis between which a line stays within 0 and 1 on the y axis; None if it never does."""
    if at_left == at_right:
        return (0.0, 1.0) if 0 <= at_left <= 1 else None
    crossings = sorted((edge - at_left) / (at_right - at_left) for edge in (0, 1))
    first, last = max(crossings[0], 0.0), min(crossings[1], 1.0)
    return (first, last) if first < last else None


def linked(mark: Mark, x: float, y: float, radius: float) -> SafeString:
    """A mark inside a link. The Tab key skips it, because the table has the same links."""
    shape = element(
        "path", element("title", mark.explanation), class_=mark.verdict.value, d=shape_of(mark.verdict, x, y, radius)
    )
    return element("a", shape, href=mark.address, tabindex=-1)


def shape_of(verdict: Verdict, x: float, y: float, radius: float) -> str:
    """The SVG path of a mark: a diamond for drift, a circle for no drift, a cross for unknown."""
    begin = f"M{x:.2f} {y:.2f}"
    match verdict:
        case Verdict.DRIFT:
            wide = radius * 1.25
            return f"{begin}m0 {-wide:.2f}l{wide:.2f} {wide:.2f}l{-wide:.2f} {wide:.2f}l{-wide:.2f} {-wide:.2f}z"
        case Verdict.NO_DRIFT:
            arc = f"a{radius:.2f} {radius:.2f} 0 1 0"
            return f"{begin}m{-radius:.2f} 0{arc} {2 * radius:.2f} 0{arc} {-2 * radius:.2f} 0z"
    arm = radius * 0.8
    return f"{begin}m{-arm:.2f} {-arm:.2f}l{2 * arm:.2f} {2 * arm:.2f}m0 {-2 * arm:.2f}l{-2 * arm:.2f} {2 * arm:.2f}"


def legend(counts: Mapping[Verdict, int], left: float) -> SafeString:
    """The legend above the plot: each shape with its verdict and its number of runs."""
    entries = []
    for verdict, label in LABELS.items():
        text = f"{label} ({counts.get(verdict, 0):,})"
        entries.append(element("path", class_=verdict.value, d=shape_of(verdict, left + 7, 20, 6)))
        entries.append(element("text", text, x=left + 20, y=24.5))
        left += 48 + CHARACTER * len(text)
    return element("g", *entries)


def shortened(text: str, length: int = MAX_TITLE) -> str:
    return text if len(text) <= length else f"{text[: length // 2 - 1]}…{text[-length // 2 :]}"
