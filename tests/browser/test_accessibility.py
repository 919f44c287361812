"""Accessibility of every page, filled with data: axe-core finds no serious violation in light or dark, and the page
fits a phone's width.
"""

import pytest
from django.contrib import admin
from playwright.sync_api import Page

from tests.browser.accessibility import excess_width, violations
from tests.browser.conftest import People, Person
from tests.browser.tour import LONG, addresses_for, open_page

EXCESS_OF_LIST = "(list => list ? list.scrollWidth - list.clientWidth : 0)(document.querySelector('.results'))"


@pytest.fixture
def ada(people: People) -> Person:
    return people("ada", "admins", LONG)


def test_no_page_has_a_serious_violation_or_scrolls_sideways_on_a_phone(ada: Person) -> None:
    found = []
    for address in addresses_for(ada):
        open_page(ada.page, address)
        found += violations_in_light_and_dark(ada.page)
        if (excess := excess_width(ada.page)) > 0:
            found.append(f"{address}: is {excess} px wider than a phone")
        ada.page.set_viewport_size({"width": 1280, "height": 720})
    assert not found, "\n".join(found)


def test_the_portal_has_no_serious_violation(ada: Person) -> None:
    addresses_for(ada)
    open_page(ada.page, "/admin/")
    found = violations_in_light_and_dark(ada.page)
    for model in admin.site._registry:
        open_page(ada.page, f"/admin/{model._meta.app_label}/{model._meta.model_name}/")
        found += violations_in_light_and_dark(ada.page)
        if (excess := ada.page.evaluate(EXCESS_OF_LIST)) > 0:
            found.append(f"The list of {model._meta.verbose_name_plural} is {excess} px wider than its place.")
        if (first := ada.page.locator("#result_list tbody th a").first).is_visible():
            open_page(ada.page, str(first.get_attribute("href")))
            found += violations_in_light_and_dark(ada.page)
    assert not found, "\n".join(found)


def violations_in_light_and_dark(page: Page) -> list[str]:
    """List the violations in light colours, and the colour violations in dark ones."""
    page.emulate_media(color_scheme="light")
    found = violations(page)
    page.emulate_media(color_scheme="dark")
    return found + violations(page, "color-contrast")


def test_a_serious_violation_would_be_found(page: Page) -> None:
    page.goto("/login")
    page.evaluate("document.querySelector('label').remove()")
    page.evaluate("document.querySelector('main').append('x'.repeat(500))")
    assert "label at" in violations(page)[0]
    assert excess_width(page) > 0
