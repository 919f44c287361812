"""Charts and timelines in a browser: chosen, drawn, downloaded, shared, and followed to a run."""

import base64
import re
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree as ET

from playwright.sync_api import BrowserContext, Page, expect

from tests.browser.conftest import People, Person

PNG = b"\x89PNG\r\n\x1a\n"
# Count the red pixels of a PNG, the colour of drift, and return the colour of its first pixel.
LOOK_AT = """async (data) => {
  const image = new Image();
  image.src = `data:image/png;base64,${data}`;
  await image.decode();
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [image.width, image.height];
  const context = canvas.getContext("2d");
  context.drawImage(image, 0, 0);
  const pixels = context.getImageData(0, 0, image.width, image.height).data;
  let red = 0;
  for (let i = 0; i < pixels.length; i += 4) red += pixels[i] > 150 && pixels[i + 1] < 100 && pixels[i + 2] < 100;
  return {red, ground: [...pixels.slice(0, 4)]};
}"""


def downloaded(page: Page, role: str, name: str) -> tuple[str, bytes]:
    """The name and the content of the file that a link or a button downloads."""
    with page.expect_download() as download:
        page.get_by_role("button" if role == "button" else "link", name=name).click()
    return download.value.suggested_filename, Path(download.value.path()).read_bytes()


def with_runs(person: Person, number: int) -> str:
    """A public experiment whose runs follow a power law."""
    experiment = person.new_experiment(name=f"power of {person.name}", public=True)
    for n in range(1, number + 1):
        parameters = {"size": n, "seconds": 2.1 * n**0.5}
        person.new_run(experiment, drift_detected=n % 2 == 0, parameters=parameters)
    return experiment


def test_a_user_charts_two_parameters_downloads_the_chart_and_shares_it(
    people: People, new_context: Callable[[], BrowserContext]
) -> None:
    ada = people("charts-ada")
    experiment = with_runs(ada, 6)
    page = ada.page
    page.goto(f"/experiments/{experiment}")
    page.get_by_role("link", name="Chart", exact=True).click()
    page.get_by_label("x axis").fill("parameters.size")
    page.get_by_label("y axis").fill("parameters.seconds")
    page.get_by_label("Draw as").select_option("Scatter")
    page.get_by_role("button", name="Draw").first.click()
    expect(page.get_by_role("group", name="seconds by size")).to_be_visible()
    page.get_by_label("x scale").select_option("Log")
    page.get_by_label("y scale").select_option("Log")
    page.get_by_label("Fit a line").check()
    page.get_by_role("button", name="Draw").first.click()
    expect(page.locator(".formula")).to_have_text("y = 2.1·x^0.5")
    expect(page.get_by_text("R² = 1.0000")).to_be_visible()

    name, png = downloaded(page, "button", "Download PNG")
    assert name == "power-of-charts-ada-chart.png"
    assert png.startswith(PNG)
    assert [int.from_bytes(png[start : start + 4], "big") for start in (16, 20)] == [1920, 960]
    seen = page.evaluate(LOOK_AT, base64.b64encode(png).decode())
    assert seen["red"] > 100
    assert seen["ground"] == [255, 255, 255, 255]
    name, svg = downloaded(page, "link", "Download SVG")
    assert name == "power-of-charts-ada-chart.svg"
    assert ET.fromstring(svg).tag == "{http://www.w3.org/2000/svg}svg"  # noqa: S314 - the service just made it
    name, table = downloaded(page, "link", "Download CSV")
    assert name == "power-of-charts-ada-chart.csv"
    assert len(table.splitlines()) == 7

    visitor = new_context().new_page()
    visitor.goto(page.url)
    expect(visitor.locator(".formula")).to_have_text("y = 2.1·x^0.5")
    assert visitor.locator("svg.plot").inner_html() == page.locator("svg.plot").inner_html()
    visitor.locator("svg.plot a").first.click()
    expect(visitor).to_have_url(re.compile(f"/experiments/{experiment}/runs/"))


def test_a_user_opens_a_time_line_in_dark_colours_and_follows_it_to_runs(people: People) -> None:
    eve = people("charts-eve")
    experiment = with_runs(eve, 3)
    page = eve.page
    page.emulate_media(color_scheme="dark")
    page.goto(f"/experiments/{experiment}?verdict=drift")
    page.get_by_role("link", name="Timeline").click()
    picture = page.get_by_role("group", name="Verdicts over time")
    expect(picture).to_be_visible()
    expect(picture.locator("a")).to_have_count(1)
    _, png = downloaded(page, "button", "Download PNG")
    assert png.startswith(PNG)
    page.get_by_text("As a table").click()
    page.get_by_role("link", name="1 run", exact=True).click()
    expect(page.get_by_role("row", name="forest")).to_have_count(1)
