"""The pages by keyboard alone: Tab, Enter and Space reach and use every control, and the focus is always visible."""

import re

from playwright.sync_api import Locator, Page, expect

from tests.browser.conftest import People, Person
from tests.browser.tour import addresses_for, open_page
from tests.crowd import unique
from tests.test_published_client import OpenIDProvider

MOST_STOPS = 150
# Return whether the focused element is on the screen, not covered by another one, and marked by an outline or shadow.
IS_SEEN = """
() => {
  const focused = document.activeElement;
  const {x, y, width, height} = focused.getBoundingClientRect();
  const style = getComputedStyle(focused);
  const isMarked = (style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) > 0) || style.boxShadow !== 'none';
  const isInside = width > 1 && height > 1 && x + width > 0 && y + height > 0 && x < innerWidth && y < innerHeight;
  return focused === document.body || (isMarked && isInside) ? '' : focused.outerHTML.slice(0, 200);
}
"""

# Number the controls of the page and return how many there are.
NUMBER_CONTROLS = """
() => {
  const usable = 'a[href], button, input, select, textarea, summary, [tabindex="0"]';
  const controls = [...document.querySelectorAll(usable)].filter(each =>
    each.tabIndex >= 0 && !each.disabled && each.type !== 'hidden' && each.checkVisibility({visibilityProperty: true}));
  controls.forEach((each, number) => each.dataset.number = number);
  return controls.length;
}
"""


def go_to(wanted: Locator, key: str = "Tab") -> None:
    """Press Tab or Shift+Tab until the wanted control has the focus. The focus must be visible at every stop."""
    expect(wanted).to_be_visible()
    page = wanted.page
    for _ in range(MOST_STOPS):
        page.keyboard.press(key)
        unseen = page.evaluate(IS_SEEN)
        assert not unseen, f"{page.url}: the focus is not seen at {unseen}"
        if wanted.evaluate("wanted => wanted === document.activeElement"):
            return
    raise AssertionError(f"{page.url}: {MOST_STOPS} times {key} do not lead to {wanted}")


def press(wanted: Locator, key: str = "Enter") -> None:
    go_to(wanted)
    wanted.page.keyboard.press(key)


def test_the_first_stop_skips_to_the_content(page: Page) -> None:
    page.goto("/")
    press(page.get_by_role("link", name="Skip to content"))
    page.keyboard.press("Tab")
    assert page.evaluate("document.querySelector('main').contains(document.activeElement)")


def test_a_user_logs_in_filters_compares_and_logs_out_by_keyboard(
    page: Page, people: People, openid: OpenIDProvider
) -> None:
    name = new_experiment_of(people("ada"))
    page.goto("/")
    press(page.get_by_role("banner").get_by_role("link", name="Log in"))
    press(page.get_by_role("link", name="Continue with"))
    page.locator("input[name=sub]").press_sequentially("ada")
    page.keyboard.press("Enter")
    press(page.get_by_role("link", name=name))

    # Choose a filter from a list.
    press(page.get_by_text("Filter", exact=True), "Space")
    go_to(page.get_by_label("Verdict"))
    page.keyboard.type("no")
    press(page.get_by_role("button", name="Apply"))
    expect(page).to_have_url(re.compile("verdict=no_drift"))
    boxes = page.get_by_role("checkbox", name="Select")
    expect(boxes).to_have_count(2)

    # Compare two runs.
    press(boxes.nth(0), "Space")
    press(boxes.nth(1), "Space")
    go_to(page.get_by_role("button", name="Compare"), "Shift+Tab")
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile("/compare"))
    expect(page.get_by_role("main")).to_contain_text("0.5")

    page.go_back()
    for tab in ("Chart", "Members", "Settings", "Runs"):
        press(page.get_by_role("navigation", name="Experiment").get_by_role("link", name=tab))
        current = page.get_by_role("navigation", name="Experiment").locator("[aria-current=page]")
        expect(current).to_have_text(tab)
    press(page.get_by_role("button", name="Log out"))
    expect(page).to_have_url(re.compile(re.escape(openid.issuer)))


def test_the_keyboard_reaches_every_control_of_every_page(people: People) -> None:
    ada = people("ada", "admins")
    # An update would replace the numbered controls of Running runs.
    ada.page.route(re.compile(r"/(running|state)(\?|$)"), lambda route: route.abort())
    for address in addresses_for(ada):
        open_page(ada.page, address)
        controls = ada.page.evaluate(NUMBER_CONTROLS)
        reached = set()
        for _ in range(controls):
            ada.page.keyboard.press("Tab")
            unseen = ada.page.evaluate(IS_SEEN)
            assert not unseen, f"{address}: the focus is not seen at {unseen}"
            reached.add(ada.page.evaluate("document.activeElement.dataset.number"))
        assert len(reached) == controls, f"{address}: {controls} controls, reached {sorted(reached, key=str)}"


def new_experiment_of(ada: Person) -> str:
    """Create an experiment and return its name."""
    name = unique("keys")
    experiment = ada.new_experiment(name=name)
    for p_value, drift_detected in ((0.5, False), (0.6, False), (0.01, True)):
        ada.new_run(experiment, drift_detected=drift_detected, parameters={"p_value": p_value})
    return name
