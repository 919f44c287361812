"""Elements of SVG, as text in which everything from outside is escaped."""

import html
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from django.contrib.staticfiles import finders
from django.utils.safestring import SafeString

# What no XML document may hold, not even escaped: https://www.w3.org/TR/xml/#charsets
FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def element(name: str, *children: Any, **attributes: Any) -> SafeString:
    """An element. `class_` and `stroke_width` are written `class` and `stroke-width`; None leaves one out."""
    written = "".join(
        f' {attribute_name(key)}="{escaped(value)}"' for key, value in attributes.items() if value is not None
    )
    # Thousands of them are made for a page: format_html takes five times as long.
    return SafeString(f"<{name}{written}>{''.join(map(escaped, children))}</{name}>")  # nosec B703


@cache
def attribute_name(key: str) -> str:
    return key.rstrip("_").replace("_", "-")


def escaped(value: Any) -> str:
    """A value as text; a number has two decimals at most."""
    match value:
        case SafeString():
            return value
        case float():
            return f"{value:.2f}".rstrip("0").rstrip(".")
        case int():
            return str(value)
    return html.escape(FORBIDDEN.sub("\ufffd", str(value)))


@dataclass(frozen=True)
class Picture:
    """What was drawn, in a page and as a file of its own. Sizes are in pixels."""

    width: int
    height: int
    title: str
    description: str
    drawing: SafeString

    @property
    def inline(self) -> SafeString:
        """For a page, in the colours of its style sheet. Readers are told the title and the description."""
        labels = element("title", self.title, id="plot-title"), element("desc", self.description, id="plot-description")
        return element(
            "svg",
            *labels,
            element("g", self.drawing, aria_hidden="true"),
            class_="plot",
            viewBox=f"0 0 {self.width} {self.height}",
            # Not an image: those hold no links, and a mark is one for who points at it.
            role="group",
            aria_labelledby="plot-title",
            aria_describedby="plot-description",
        )

    @property
    def alone(self) -> SafeString:
        """A file: it carries its style, and a white ground."""
        return element(
            "svg",
            element("title", self.title),
            element("desc", self.description),
            element("style", style_of_pictures()),
            element("rect", width="100%", height="100%", fill="#fff"),
            self.drawing,
            xmlns="http://www.w3.org/2000/svg",
            class_="plot",
            width=self.width,
            height=self.height,
            viewBox=f"0 0 {self.width} {self.height}",
        )


@cache
def style_of_pictures() -> str:
    """The style of plots on the pages, in their light colours: programs that draw SVG know no variables."""
    light = dict(re.findall(r"--([a-z-]+): light-dark\((#[0-9a-f]+)", style_sheet("driftwatch/pages.css")))
    return re.sub(r"var\(--([a-z-]+)\)", lambda match: light[match[1]], style_sheet("pages/plot.css"))


def style_sheet(name: str) -> str:
    return Path(str(finders.find(name))).read_text()
