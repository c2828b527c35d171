"""The command line: `gz2vit --help`, also `python -m gz2vit`."""

import argparse
import gc
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path

from gz2sim import SimulationError
from gz2vit import __version__
from gz2vit.io import Gz2vitError
from gz2vit.surroundings import isolate


def run_command() -> None:
    """`main`, and an end at once: taking torch's objects apart one by one would take a second."""
    os._exit(main())


def main(words: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code; an error of the user's is one line, the last."""
    for stream in (sys.stdout, sys.stderr):  # a terminal may lack a letter; the work goes on
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    isolate()
    gc.set_threshold(100_000)  # torch has a million objects: looking at every 700th takes a second
    words, own = list(sys.argv[1:] if words is None else words), []
    if words[:1] == ["run"] and "--" in words:
        words, own = words[: words.index("--")], words[words.index("--") + 1 :]
    options = vars(_parser().parse_args(words)) | ({"options": own} if own else {})
    try:
        module, _, function = options.pop("command").rpartition(".")
        if said := getattr(import_module(module), function)(**options):
            print(said)
        sys.stdout.flush()
    except (Gz2vitError, SimulationError) as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        return 1
    except BrokenPipeError:  # `| head -1` has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        print("error: stopped from the keyboard; the same command continues", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    """All commands, each with its function, whose parameters are named as the options are."""
    parser = argparse.ArgumentParser(prog="gz2vit", description=__doc__)
    parser.add_argument("--version", action="version", version=f"gz2vit {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, function: str, help: str):
        added = commands.add_parser(name, help=help, description=help)
        added.set_defaults(command=function)
        return added.add_argument

    add = command("run", "gz2vit.workflow.run", "run stale steps; what follows -- is Snakemake's")
    add("profile", nargs="?", help="demo (default), smoke, paper or published")
    add("--data", metavar="DIR", help="data folder; without it galaxies are simulated")
    add("--results", metavar="DIR", help="instead of results/<profile>")
    add("--from", dest="archive", metavar="FILE|URL", help="begin with what `archive` has made")
    add("--mirror", metavar="URL", help="address or folder of a copy of what is downloaded")
    add("--only", nargs="+", default=[], metavar="STEP", help="and what they need")
    add("--jobs", type=int, metavar="N", help="steps side by side")
    add("--retrain", nargs="*", metavar="KEY", help="train again, these models or all")
    add("--plan", action="store_true", dest="plan_only", help="print what would run, why, and end")
    add("--executor", metavar="NAME", help="run on a cluster: profiles/<name>")
    take_back = "parameters, such as linformer.MAX_EPOCH=30; NAME=default takes one back"
    many = {"nargs": "+", "action": "extend", "default": []}
    add("--set", **many, dest="overrides", metavar="[STEP.]NAME=VALUE", help=take_back)

    add = command("execute", "gz2vit.workflow.execute", "run one step of a planned run")
    add("name", metavar="STEP", help="the step; the folder is the results folder")
    add("--results", type=Path, default=Path.cwd(), help=argparse.SUPPRESS)

    add = command("archive", "gz2vit.archive.write_archive", "put a run into one file (run --from)")
    add("results", type=Path, help="its results folder")
    add("--to", type=Path, required=True, metavar="FILE.zip", help="the file")
    add("--weights", action="store_true", help="with the networks' weights")

    add = command("check", "gz2vit.cli._check", "check a data folder: tables and images")
    add("directory", type=Path, help="the data folder")

    add = command("simulate", "gz2sim.folder.simulate", "make a data folder of simulated galaxies")
    add("directory", type=Path, help="the data folder to make")
    add("--galaxies", type=int, default=2400, metavar="N", help="how many")
    add("--seed", type=int, default=0, metavar="S", help="which ones")
    add("--processes", type=int, metavar="P", help="side by side (all cores)")
    add("--replace", action="store_true", help="instead of another simulation")

    add = command("download", "gz2vit.download.fetch_galaxy_zoo", "fetch Galaxy Zoo 2 and labels")
    add("kinds", nargs="*", metavar="WHAT", help="images mapping votes properties labels (all)")
    add("--to", type=Path, dest="directory", metavar="DIR", help="the data folder (gz2_data)")
    add("--mirror", metavar="URL", help="address or folder of a copy")
    add("--images", type=Path, metavar="PATH", help="own images: folder or zip")

    def add_rule() -> None:
        add("--rule", type=Path, metavar="FILE", help="a rule in YAML")
        add("--min-votes", type=int, metavar="N", help="instead of the rule's")

    add = command("derive-labels", "gz2vit.cli._derive", "label tables from volunteers' votes")
    add("votes", type=Path, help="a catalogue of votes of Galaxy Zoo 2")
    add("--to", type=Path, required=True, metavar="DIR", help="where they go")
    add("--mapping", type=Path, metavar="FILE", help="GZ2's file map")
    add("--images", type=Path, metavar="DIR", help="the images, to be linked")
    add("--seed", type=int, default=0, metavar="S", help="of the split")
    add_rule()

    add = command("explain-label", "gz2vit.cli._explain", "why a galaxy got its class")
    add("galaxy", metavar="ID", help="SDSS object id, or the image's name")
    add("--data", type=Path, metavar="DIR", help="the data folder (gz2_data)")
    add("--votes", type=Path, metavar="FILE", help="instead of DIR/downloads")
    add_rule()

    add = command("lab", "gz2vit.lab.open_lab", "open JupyterLab on the notebooks of a run")
    add("results", nargs="?", type=Path, metavar="RESULTS", help="the latest run's")

    add = command("site", "gz2vit.site.write_site", "write report and notebooks as a static site")
    add("results", type=Path, metavar="RESULTS", help="the results folder")
    add("--to", type=Path, required=True, metavar="DIR", help="where it goes")

    add = command("predict", "gz2vit.cli._predict", "classify images with a trained model")
    add("images", nargs="+", metavar="IMAGES", help="images, folders, @LIST, - (standard input)")
    add("--model", default="bundled", metavar="PATH", help="its folder (the bundled network)")
    add("--labels", type=Path, metavar="FILE", help="a label table to compare with")
    add("--out", type=Path, required=True, metavar="FILE", help=".csv or .parquet")
    add("--average", action="store_true", help="average over the eight flips and quarter turns")
    add("--resize", action="store_true", help="take images of any size")
    scale = "pixels of an image for one of Galaxy Zoo 2's, which is 0.02 petroR90"
    add("--pixel-scale", type=float, default=0.0, metavar="F", help=scale)
    add("--strict", action="store_true", help="stop at the first broken image")
    add("--overwrite", action="store_true", help="replace an existing table")
    add("--restart", action="store_true", help="drop what an interrupted run has left")
    add("--crop-px", type=int, default=0, metavar="N", help="central square (the model's own)")
    add("--batch-size", type=int, default=0, metavar="N", help="images at once")
    add("--workers", type=int, default=0, metavar="N", help="threads")
    add("--device", default="auto", help="cpu, cuda, cuda:1, mps (a GPU if any)")
    add("--precision", default="auto", help="auto: half where it pays; float32: to the last digit")
    add("--gpu-decode", action="store_true", help="decode JPEG files on the GPU")
    return parser


def _check(directory: Path) -> str:
    from gz2vit.catalog import class_composition, read_data_folder
    from gz2vit.images import check_folder

    check_folder(folder := read_data_folder(directory))
    table = class_composition(folder.tables).to_string()
    return f"{table}\n{folder.path}: every table and image is in order"


def _derive(votes: Path, to: Path, seed: int, mapping: Path, images: Path, **rule) -> str:
    from gz2vit.votes import derive_folder

    done = derive_folder(votes, to, rule := _rule(**rule), seed, mapping, images)
    without = done["without_image"]
    counts = done["classes"] | ({"without an image": without} if without else {})
    lines = [f"{name:<26}{count:>9,}" for name, count in counts.items()]
    splits = ", ".join(f"{count:,} to {split}" for split, count in done["galaxies"].items())
    return "\n".join([*lines, f"{to}: label tables by '{rule.name}', {splits}"])


def _explain(galaxy: str, data: Path | None, votes: Path | None, **rule) -> str:
    from gz2vit.votes import GALAXY_ZOO_DIR, VOTES_FILE, explain_galaxy

    data = data or GALAXY_ZOO_DIR
    return explain_galaxy(galaxy, votes or data / VOTES_FILE, _rule(**rule), data)


def _rule(rule: Path | None, min_votes: int | None):
    """The selection rule that the options ask for."""
    from gz2vit.votes import DEFAULT_RULE, read_rule

    found = read_rule(rule) if rule else DEFAULT_RULE
    return found if min_votes is None else replace(found, min_votes=min_votes)


def _predict(
    model: str, images: Sequence[str], out: Path, labels: Path | None, overwrite: bool,
    restart: bool, **how,
) -> str:  # fmt: skip
    from gz2vit.io import MODEL_CARD
    from gz2vit.predict import InferenceOptions, compare_labels, predict_images

    if model == "bundled":
        print(f"with the bundled Linformer, calibrated, the mean of eight views: {MODEL_CARD}")
    options = InferenceOptions(**how)
    count, broken = predict_images(model, images, out, options, overwrite, restart)
    listed = f"; {broken:,} broken ones are listed in {out}.broken.csv" if broken else ""
    compared = f"\n{compare_labels(out, labels, model == 'bundled')}" if labels else ""
    return f"{out}: {count - broken:,} images{listed}{compared}"
