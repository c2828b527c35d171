"""A run as a static site: links and pictures, where a figure is from, at two widths, offline."""

import json
import shutil
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from gz2vit.io import Gz2vitError
from gz2vit.report import write_report
from gz2vit.site import write_site
from tests.browser import DESKTOP, PHONE, open_browser
from tests.test_notebooks import ROOT, run
from tests.trained_run import KEYS

RECORD = {"galaxies": {"signature": {"galaxies": "0123abcd", "pixels": "fedc"}}, "commit": "c0ffee"}


@pytest.fixture(scope="module")
def results(trained_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained run whose Fig. 2 was drawn by its notebook, with the report."""
    results = tmp_path_factory.mktemp("site") / "results" / "demo"
    shutil.copytree(trained_run, results, ignore=shutil.ignore_patterns("store"))
    book, output = ROOT / "figures/16_draw_fig2_examples.ipynb", results / "notebooks/16_fig2.ipynb"
    output.parent.mkdir()
    run("papermill", book, output, "-p", "RESULTS_DIR", results, "--cwd", book.parent)
    shutil.copy(output, output.with_name("16_fig2.failed.ipynb"))  # of an older attempt
    record = results / "logs" / "steps" / "fig2.json"
    record.parent.mkdir(parents=True)
    record.write_text(json.dumps(RECORD))
    write_report(results, KEYS)
    return results


@pytest.fixture(scope="module")
def front(results: Path) -> Path:
    """The front page of its site, which stands by itself."""
    return write_site(results, results.parents[1] / "site")


class Page(HTMLParser):
    """The ids, links and pictures of a page, which has no scripts."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.ids, self.links, self.pictures = set(), [], []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attributes: list) -> None:
        assert tag not in ("script", "iframe")
        found = dict(attributes)
        self.ids.add(found.get("id"))
        self.links += [found["href"]] if tag == "a" and "href" in found else []
        self.pictures += [found["src"]] if "src" in found else []


def test_every_link_leads_somewhere_and_a_figures_to_its_cell(front, results, tmp_path: Path):
    pages = sorted(front.parent.rglob("*.html"))
    assert [page.name for page in pages] == ["index.html", "16_fig2.html"]
    for page in pages:
        content = Page(page)
        assert content.pictures
        assert all(source.startswith("data:image/") for source in content.pictures)
        for link in content.links:
            parts = urlsplit(link)
            if parts.scheme:
                continue  # the paper, and what is to be cited
            target = page.parent / unquote(parts.path) if parts.path else page
            assert target.is_file(), link
            assert not parts.fragment or unquote(parts.fragment) in Page(target).ids, link
    # a figure leads to its cell in one click
    drawn = [link for link in Page(front).links if link.startswith("notebooks/16_fig2.html#")]
    assert drawn == ["notebooks/16_fig2.html#cell-id=cb9ed5af"]
    page = (front.parent / "notebooks" / "16_fig2.html").read_text()
    origin = ("gz2vit/plots/paper_figures.py", "figures/16_draw_fig2_examples.ipynb")
    for words in (*origin, "galaxies 0123abcd", "pixels fedc", "c0ffee"):
        assert words in page
    # and it goes nowhere else than where it was asked
    with pytest.raises(Gz2vitError, match="is the results folder"):
        write_site(results, results)
    with pytest.raises(Gz2vitError, match=r"report\.html"):
        write_site(tmp_path, tmp_path / "site")


def test_it_is_read_at_a_desk_and_on_a_phone_without_a_network(front: Path):
    with open_browser() as browser:
        for width in (DESKTOP, PHONE):
            page = browser.new_page(viewport=width)
            asked: list[str] = []
            page.on("request", lambda request, asked=asked: asked.append(request.url))
            page.goto(front.as_uri())
            page.locator("a[href^='notebooks/16_fig2.html#']").first.click()
            page.wait_for_load_state()
            assert page.url.endswith("16_fig2.html#cell-id=cb9ed5af")
            assert page.locator(":target img").is_visible()
            wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
            assert page.evaluate(wide) <= 0
            assert page.evaluate("[...document.images].every(one => one.naturalWidth > 0)")
            assert all(url.startswith(("file:", "data:")) for url in asked)
            page.close()
