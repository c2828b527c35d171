"""A run in one file, from which figures, tables and report are drawn again without any training.

The file is a zip, and an RO-Crate (https://w3id.org/ro/crate): its `ro-crate-metadata.json` lists
every file with its SHA-256. The zip's comment, its last 64 bytes, is the SHA-256 of all bytes
before it, so that no change goes unnoticed.
"""

import hashlib
import json
import mimetypes
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import yaml

from gz2vit import __version__, io
from gz2vit.catalog import choose_examples, read_selection
from gz2vit.download import resume_download
from gz2vit.io import ARCHIVE_RECORD, SETTINGS, Gz2vitError, atomic_path, read_json, write_json
from gz2vit.paper import ARXIV, TITLE

METADATA = "ro-crate-metadata.json"
SEAL = 64  # bytes of the SHA-256 in the zip's comment
FOLDERS = ("selection", "models", "attention", "features", "labels", "tables", "figures")
FOLDERS += ("notebooks", "logs/steps")
LEFT_OUT = {"unfinished", "replaced", "retrain", ".failed", ".running"}  # trainings, notebooks
DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, OSError, LookupError, ValueError, RuntimeError)


def archive_files(results: Path, weights: bool = False) -> Iterator[tuple[str, Path]]:
    """What figures, tables and report need of a run, by name; images only of Figs. 1 and 2."""
    yield from ((name, results / name) for name in (SETTINGS, "logs/plan.txt"))
    for path in sorted(path for folder in FOLDERS for path in (results / folder).rglob("*")):
        name = path.relative_to(results)
        dropped = path.suffix == io.CHECKPOINT_SUFFIX and not weights
        dropped |= bool(LEFT_OUT & {*name.parts, *path.suffixes[:-1]})
        if path.is_file() and not (dropped or any(part.startswith(".") for part in name.parts)):
            yield name.as_posix(), path
    selection, record = read_selection(results), results / "logs/steps/fig2.json"
    seed = read_json(record)["parameters"]["SAMPLE_SEED"] if record.exists() else 0
    yield "data/galaxy_properties.csv", selection.path / "galaxy_properties.csv"
    if (selection.path / "images").is_dir():
        shown = [choose_examples(selection.tables, *each).values() for each in ((1, 0), (2, seed))]
        names = {name for examples in shown for own in examples for name in own}
        for path in map(selection.image_path, sorted(names)):
            yield f"data/images/{path.name}", path


def write_archive(results: Path, to: Path, weights: bool = False) -> str:
    """Write the run in `results` to the new zip `to`, with its weights if asked; what was done."""
    from rocrate.model import SoftwareApplication
    from rocrate.rocrate import ROCrate

    results = results.resolve()
    if to.suffix != ".zip" or to.exists():
        raise Gz2vitError(f"--to {to}: name a new file that ends in .zip")
    if not (results / SETTINGS).is_file():
        raise Gz2vitError(f"{results} holds no run; name a results folder, such as results/demo")
    with io.sole_user(results / ".lock", f"a run is working in {results}; wait for it"):
        crate, data = ROCrate(), read_selection(results).data
        crate.name = f"gz2vit, profile {data['profile']}: {data['name']}"
        crate.description = (
            f"Results of a reproduction of {TITLE} (arXiv:{ARXIV}). `./run_all.sh "
            f"{data['profile']} --from {to.name}` draws its figures, tables and report."
        )
        crate.root_dataset["isBasedOn"] = f"https://arxiv.org/abs/{ARXIV}"
        about = {"name": "gz2vit", "softwareVersion": __version__, "version": io.git_commit()}
        software = crate.add(SoftwareApplication(crate, "#gz2vit", properties=about))
        files = {name: path for name, path in archive_files(results, weights) if path.exists()}
        for name, path in files.items():
            with path.open("rb") as stream:
                about = {"sha256": hashlib.file_digest(stream, "sha256").hexdigest()}
            about["encodingFormat"] = mimetypes.guess_type(name)[0] or "application/octet-stream"
            crate.add_file(path, name, record_size=True, properties=about)
        crate.add_action(software, result=[crate.root_dataset], properties={"name": "the run"})
        with atomic_path(to) as temporary:
            crate.write_zip(temporary)
            with zipfile.ZipFile(temporary, "a") as archive:
                archive.comment = b"0" * SEAL
            content = np.memmap(temporary, np.uint8, "r+")
            content[-SEAL:] = np.frombuffer(_seal(temporary)[0], np.uint8)
            content.flush()
    return f"{to}: {len(files):,} files, {to.stat().st_size / 1e6:.1f} MB"


def open_archive(
    source: str, results: Path, drawn: Sequence[str], profile: str | None = None
) -> None:
    """Unpack the archive `source`, a file or an address, into the new folder `results`.

    `drawn`: the steps that are to be run: their records are dropped, and of the settings only those
    kept that concern them. `profile`: which it must be of. A folder made from the same file stays
    as it is. Raises `Gz2vitError` for a changed or damaged file.
    """
    path, name = Path(source).expanduser(), source.rpartition("/")[2]
    results.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".gz2vit-", dir=results.parent) as temporary:
        if source.startswith(("http://", "https://")):
            path = Path(temporary) / name
            resume_download(source, path, "name another copy with --from")
        record = {"file": name, "sha256": _check(path, source)}
        if (made := results / ARCHIVE_RECORD).exists() and read_json(made) == record:
            return
        if results.exists() and any(results.iterdir()):
            raise Gz2vitError(f"{results} holds other results than {name}; name other --results")
        staged = Path(temporary) / "results"
        with zipfile.ZipFile(path) as archive:
            archive.extractall(staged)
        settings = yaml.safe_load((staged / SETTINGS).read_text(encoding="utf-8"))
        if profile not in (None, settings["profile"]):
            raise Gz2vitError(f"{source} is of profile {settings['profile']}, not {profile}")
        records = [one for step in drawn if (one := staged / f"logs/steps/{step}.json").exists()]
        names = {"SEEDS"}.union(*(read_json(path)["parameters"] for path in records))
        kept = []
        for text in settings.get("set", []):
            step, _, name = text.partition("=")[0].rpartition(".")
            if step in (*drawn, "backbones") or name in (names if not step else ("SEEDS",)):
                kept.append(text)
        for path in records:
            path.unlink()
        settings |= {"data": None, "set": kept}
        (staged / SETTINGS).write_text(yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")
        data = read_json(staged / "selection" / "data.json")
        write_json(staged / "selection" / "data.json", data | {"folder": str(results / "data")})
        write_json(staged / ARCHIVE_RECORD, record)
        staged.replace(results)


def _seal(path: Path) -> tuple[bytes, bytes]:
    """The SHA-256 of all but the last 64 bytes of a file, in hexadecimal, and those 64 bytes."""
    content = np.memmap(path, np.uint8, "r")
    return hashlib.sha256(content[:-SEAL]).hexdigest().encode(), content[-SEAL:].tobytes()


def _check(path: Path, source: str) -> str:
    """The seal of an archive that is as it was made; `Gz2vitError` for any other file."""
    try:
        seal, found = _seal(path)
    except (OSError, ValueError) as error:
        raise Gz2vitError(f"cannot read the archive {source}: {error}") from error
    if seal == found:
        return seal.decode()
    why = "it is cut short, or was not made by `gz2vit archive`"
    with suppress(*DAMAGE), zipfile.ZipFile(path) as archive:
        listed = {one["@id"]: one for one in json.loads(archive.read(METADATA))["@graph"]}
        for name in {*archive.namelist()} - {METADATA}:
            why = f"{name} has changed"
            if hashlib.sha256(archive.read(name)).hexdigest() != listed[name]["sha256"]:
                break
        else:
            why = "its files are as they were, but not what holds them together"
    raise Gz2vitError(f"the archive {source} is damaged: {why}; get another copy")
