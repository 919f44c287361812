"""SVG elements as text, in which all input is escaped."""

import html
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from django.contrib.staticfiles import finders
from django.utils.safestring import SafeString

# Characters that XML forbids, even escaped: https://www.w3.org/TR/xml/#charsets
FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def element(name: str, *children: Any, **attributes: Any) -> SafeString:
    """An SVG element. `class_` and `stroke_width` become `class` and `stroke-width`. None omits an attribute."""
    written = "".join(
        f' {attribute_name(key)}="{escaped(value)}"' for key, value in attributes.items() if value is not None
    )
    # A page has thousands of elements, and format_html takes five times as long.
    text = f"<{name}{written}>{''.join(map(escaped, children))}</{name}>"
    return SafeString(text)  # nosec B703


@cache
def attribute_name(key: str) -> str:
    return key.rstrip("_").replace("_", "-")


def escaped(value: Any) -> str:
    """Convert a value to escaped text. Numbers get at most two decimals."""
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
    """A drawing for a page and for a file. Sizes are in pixels."""

    width: int
    height: int
    title: str
    description: str
    drawing: SafeString

    @property
    def inline(self) -> SafeString:
        """The SVG for a page, whose style sheet colours it. Screen readers read the title and the description."""
        labels = element("title", self.title, id="plot-title"), element("desc", self.description, id="plot-description")
        return element(
            "svg",
            *labels,
            element("g", self.drawing, aria_hidden="true"),
            class_="plot",
            viewBox=f"0 0 {self.width} {self.height}",
            # Not the role `img`: an image contains no links, and each mark is a link for the pointer.
            role="group",
            aria_labelledby="plot-title",
            aria_describedby="plot-description",
        )

    @property
    def alone(self) -> SafeString:
        """The SVG for a file, with its own style and a white background."""
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
    """The style sheet of plots in the light colours. Variables are replaced, because SVG viewers may lack them."""
    light = dict(re.findall(r"--([a-z-]+): light-dark\((#[0-9a-f]+)", style_sheet("driftwatch/pages.css")))
    return re.sub(r"var\(--([a-z-]+)\)", lambda match: light[match[1]], style_sheet("pages/plot.css"))


def style_sheet(name: str) -> str:
    return Path(str(finders.find(name))).read_text()
