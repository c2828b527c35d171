"""`gz2vit site`: a run as a static site, its report in front and its notebooks as pages.

Nothing on it needs JavaScript or the network. Cells have the addresses that JupyterLab, too, knows:
`#cell-id=...`.
"""

import re
import shutil
from pathlib import Path

import nbformat
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from nbconvert import HTMLExporter
from pygments.formatters import HtmlFormatter

from gz2vit.io import Gz2vitError, read_json, require, write_text

NOTEBOOK_LINK = re.compile(r'href="(notebooks/[^"#]+)\.ipynb')
MODULES = re.compile(r"^(?:from|import) (gz2(?:vit|sim)[\w.]*)(?: import ([\w, ]+))?", re.MULTILINE)


def write_site(results: Path, to: Path) -> Path:
    """Write the site of a run, which must have a report, into the folder `to`; its front page."""
    report = require(results / "report.html", "report")
    if to.resolve() == results.resolve():
        raise Gz2vitError(f"--to {to} is the results folder; name another")
    front = NOTEBOOK_LINK.sub(r'href="\1.html', report.read_text(encoding="utf-8"))
    linked = re.findall(r'href="([^"#:]+)"', front)
    for name in [name for name in linked if (results / name).is_file()]:
        (to / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(results / name, to / name)
    options = {"trim_blocks": True, "lstrip_blocks": True, "undefined": StrictUndefined}
    environment = Environment(loader=PackageLoader("gz2vit"), autoescape=True, **options)
    template = environment.get_template("page.html.j2")
    exporter = HTMLExporter(template_name="basic", exclude_anchor_links=True)
    colours = Markup(HtmlFormatter().get_style_defs(".highlight"))
    paths = [p for p in sorted(results.glob("notebooks/[0-9]*.ipynb")) if ".failed" not in p.name]
    books = {path: nbformat.read(path, as_version=4) for path in paths}
    heads = {path.stem: book.cells[0].source.splitlines()[0] for path, book in books.items()}
    titles = {name: head.lstrip("# ") for name, head in heads.items()}
    for path, book in books.items():
        body = Markup(exporter.from_notebook_node(book)[0])
        content = {"name": path.stem, "titles": titles, "body": body, "colours": colours}
        content["origin"] = _origin(results, path.stem[3:], book)
        write_text(to / "notebooks" / f"{path.stem}.html", template.render(content))
        shutil.copyfile(path, to / "notebooks" / path.name)
    write_text(to / "index.html", front)
    return to / "index.html"


def _origin(results: Path, step: str, book: nbformat.NotebookNode) -> dict[str, str]:
    """What made a notebook's figures: source notebook, modules, checksum of the data, commit."""
    record = results / "logs" / "steps" / f"{step}.json"
    known = read_json(record) if record.exists() else {}
    signature = known.get("galaxies", {}).get("signature") or {}
    code = "\n".join(cell.source for cell in book.cells if cell.cell_type == "code")
    modules = set()
    for module, names in MODULES.findall(code):
        own = [f"{module}.{name}" for name in names.split(", ")] if "." not in module else [module]
        modules |= {f"{name.replace('.', '/')}.py" for name in own}
    source = Path(book.metadata.get("papermill", {}).get("input_path", "unknown"))
    checksums = ", ".join(f"{name} {value[:16]}" for name, value in signature.items())
    return {
        "notebook": "/".join(source.parts[-2:]),
        "modules": ", ".join(sorted(modules)) or "none",
        "checksum of the data": checksums or "not recorded",
        "commit": known.get("commit", "not recorded"),
    }
