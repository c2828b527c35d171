"""The report in a browser, as wide as a desk and as a phone: nothing broken, no one asked."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gz2vit.report import write_report
from tests.unit.browser import DESKTOP, PHONE, open_browser
from tests.unit.small_report import MODELS, make_report_folder

# So many models, not trained, that the tables are wider than any window.
MANY = [*MODELS, *(f"convnext{number}" for number in range(20))]
PICTURES = "Array.from(document.images)"
RIGHTMOST = """Math.max(...Array.from(document.querySelectorAll('body *'))
    .filter(one => !one.closest('.wide, .picture') && getComputedStyle(one).position !== 'absolute')
    .map(one => one.getBoundingClientRect().right))"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with open_browser() as opened:
        yield opened


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(make_report_folder(tmp_path_factory.mktemp("report")), MANY)


@pytest.fixture(params=[DESKTOP, PHONE], ids=["desktop", "phone"])
def page(browser: Any, report: Path, request: pytest.FixtureRequest) -> Iterator[Any]:
    """The report, opened without JavaScript of its own and with all its requests noted."""
    context = browser.new_context(viewport=request.param, java_script_enabled=True, offline=True)
    opened = context.new_page()
    opened.asked = []
    opened.told = []
    opened.on("request", lambda asked: opened.asked.append(asked.url))
    opened.on("console", lambda message: opened.told.append(message.text))
    opened.goto(report.as_uri())
    yield opened
    context.close()


def test_no_request_leaves_the_machine(page: Any, report: Path):
    others = [url for url in page.asked if not url.startswith("data:")]
    assert others == [report.as_uri()]
    assert page.told == []


def test_it_is_never_wider_than_the_window(page: Any):
    width = page.viewport_size["width"]
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(RIGHTMOST) <= width + 0.5


def test_every_picture_is_whole_and_fits(page: Any):
    sizes = page.evaluate(
        f"{PICTURES}.map(one => [one.complete, one.naturalWidth, one.width, one.alt.length])"
    )
    assert len(sizes) == 8
    # On a phone a wide picture slides sideways in its frame, no wider than 40 rem.
    widest_px = max(page.viewport_size["width"], 640)
    for complete, natural_px, shown_px, letters in sizes:
        assert complete and natural_px > 100
        assert 100 < shown_px <= widest_px
        assert letters > 20
    frames = page.evaluate(
        "Array.from(document.querySelectorAll('.picture')).map(one => one.clientWidth)"
    )
    assert len(frames) == 8 and max(frames) <= page.viewport_size["width"]
    kept = page.evaluate(
        f"{PICTURES}.map(one => one.width / one.height * one.naturalHeight / one.naturalWidth)"
    )
    assert kept == pytest.approx([1.0] * 8, abs=0.02)


def test_every_link_leads_to_a_file_or_a_place_on_the_page(page: Any, report: Path):
    links = page.evaluate("Array.from(document.links).map(one => one.href)")
    inside = [link for link in links if link.startswith(f"{report.as_uri()}#")]
    files = [link for link in links if link.startswith("file:") and link not in inside]
    assert len(inside) >= 9 and len(files) >= 10
    for link in inside:
        assert page.locator(f"[id='{link.partition('#')[2]}']").count() == 1
    for link in files:
        assert Path(link.removeprefix("file://")).is_file(), link
    outside = set(links) - set(inside) - set(files)
    assert all(link.startswith(("https://arxiv.org/", "https://doi.org/")) for link in outside)


def test_a_value_stands_beside_its_interval(page: Any):
    """On a phone each row is a card: its values stand together, at the right, empty ones not."""
    gaps = page.evaluate(
        """Array.from(document.querySelectorAll('.cards td .whole')).map(one => {
            const range = document.createRange();
            range.selectNode(one.previousSibling);
            const value = range.getBoundingClientRect(), interval = one.getBoundingClientRect();
            return value.top < interval.top - 2 ? 0 : interval.left - value.right;
        })"""
    )
    assert gaps and max(gaps) < 12
    empty = page.evaluate(
        "Array.from(document.querySelectorAll('.cards td.none')).map(one => one.offsetHeight)"
    )
    assert empty and (max(empty) == 0) == (page.viewport_size == PHONE)


def test_words_are_large_enough_to_read(page: Any):
    sizes = page.evaluate(
        "Array.from(document.querySelectorAll('p, td, th, dd, li, figcaption'))"
        ".map(one => parseFloat(getComputedStyle(one).fontSize))"
    )
    assert min(sizes) >= 12


def test_without_javascript_and_on_paper_all_is_there(browser: Any, report: Path, tmp_path: Path):
    context = browser.new_context(viewport=PHONE, java_script_enabled=False)
    opened = context.new_page()
    opened.goto(report.as_uri())
    assert "How to cite" in opened.inner_text("main")
    path = tmp_path / "report.pdf"
    opened.pdf(path=path, format="A4")
    assert path.read_bytes().startswith(b"%PDF")
    opened.emulate_media(media="print")
    assert not opened.locator("nav").is_visible()
    assert opened.locator("#figure-fig3 img").is_visible()
    context.close()
