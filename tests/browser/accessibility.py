"""Accessibility rules of axe-core, checked on a page in a browser."""

from typing import Any

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, ViewportSize

SERIOUS = {"serious", "critical"}
PHONE: ViewportSize = {"width": 375, "height": 700}


def violations(page: Page, *rules: str) -> list[str]:
    """List the serious and critical violations, of the named rules or of all, after opening every `<details>`."""
    page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
    # A colour that is still fading would be measured wrongly.
    page.evaluate("Promise.all(document.getAnimations().map(each => each.finished))")
    # axe-core would load the style sheets again, and fail on some addresses.
    options: dict[str, Any] = {"resultTypes": ["violations"], "preload": False}
    if rules:
        options["runOnly"] = list(rules)
    found = Axe().run(page, options=options).response["violations"]
    return [
        f"{page.url}: {violation['id']} at {node['target']}: {node['html'][:200]}"
        for violation in found
        if violation["impact"] in SERIOUS
        for node in violation["nodes"]
    ]


def excess_width(page: Page) -> int:
    """Return by how many pixels the page is wider than a phone."""
    page.set_viewport_size(PHONE)
    return int(page.evaluate("document.documentElement.scrollWidth")) - PHONE["width"]
