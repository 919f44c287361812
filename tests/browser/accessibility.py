"""What axe-core finds wrong with a page that a browser shows."""

from typing import Any

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, ViewportSize

SERIOUS = {"serious", "critical"}
PHONE: ViewportSize = {"width": 375, "height": 700}


def faults(page: Page, *rules: str) -> list[str]:
    """The serious and critical ones, by the rules named or by all; whatever is folded in is unfolded first."""
    page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
    # Colours that fade into others are none yet.
    page.evaluate("Promise.all(document.getAnimations().map(each => each.finished))")
    # It would load style sheets once more, some from where they are not.
    options: dict[str, Any] = {"resultTypes": ["violations"], "preload": False}
    if rules:
        options["runOnly"] = list(rules)
    found = Axe().run(page, options=options).response["violations"]
    return [
        f"{page.url}: {fault['id']} at {node['target']}: {node['html'][:200]}"
        for fault in found
        if fault["impact"] in SERIOUS
        for node in fault["nodes"]
    ]


def sideways(page: Page) -> int:
    """By how many pixels the page is wider than a phone."""
    page.set_viewport_size(PHONE)
    return int(page.evaluate("document.documentElement.scrollWidth")) - PHONE["width"]
