"""The command line: `gz2vit --help`, also `python -m gz2vit`."""

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from gz2vit import __version__
from gz2vit.io import Gz2vitError
from gz2vit.surroundings import isolate

PREDICT_NUMBERS = {
    "--crop-px": "central square (the model's own)",
    "--batch-size": "images at once",
    "--workers": "decoding threads",
}
PREDICT_FLAGS = {
    "--average": "average over the eight flips and quarter turns",
    "--resize": "take images of any size",
    "--strict": "stop at the first broken image",
    "--overwrite": "replace an existing table",
    "--restart": "drop what an interrupted run has left",
}


def main(words: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code; an error of the user's is one line, the last."""
    for stream in (sys.stdout, sys.stderr):  # a terminal may lack a letter; the work goes on
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    isolate()
    words = list(sys.argv[1:] if words is None else words)
    snakemake: list[str] = []
    if words[:1] == ["run"] and "--" in words:
        words, snakemake = words[: words.index("--")], words[words.index("--") + 1 :]
    options = _parser().parse_args(words, argparse.Namespace(snakemake=snakemake))
    try:
        options.command(options)
        sys.stdout.flush()
    except Gz2vitError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        return 1
    except BrokenPipeError:  # `| head -1` has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("error: stopped from the keyboard; the same command continues", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    """All commands and their options."""
    parser = argparse.ArgumentParser(prog="gz2vit", description=__doc__)
    parser.add_argument("--version", action="version", version=f"gz2vit {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, function, help: str, **options) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=help, **options)
        added.set_defaults(command=function)
        return added

    run = command(
        "run",
        _run,
        "run every step that is stale (what ./run_all.sh calls)",
        epilog="Everything after -- goes to Snakemake as it is.",
    )
    run.add_argument("profile", nargs="?", help="demo (default), smoke or paper")
    run.add_argument("--data", metavar="DIR", help="data folder; without it galaxies are simulated")
    run.add_argument("--results", metavar="DIR", help="instead of results/<profile>")
    run.add_argument("--only", nargs="+", default=[], metavar="STEP", help="and what they need")
    run.add_argument("--jobs", type=int, metavar="N", help="steps side by side")
    run.add_argument("--retrain", nargs="*", metavar="KEY", help="train again, these models or all")
    run.add_argument("--plan", action="store_true", help="print what would run and why, and end")
    run.add_argument("--executor", metavar="NAME", help="run on a cluster: profiles/<name>")
    run.add_argument(
        *("--set",),
        nargs="+",
        action="extend",
        default=[],
        dest="overrides",
        metavar="[STEP.]NAME=VALUE",
        help="parameters, such as linformer.MAX_EPOCH=30; NAME=default takes one back",
    )

    execute = command("execute", _execute, "run one step of a planned run (for the Snakefile)")
    execute.add_argument("step", help="name of the step; the folder is the results folder")

    check = command("check", _check, "check a data folder: tables and images")
    check.add_argument("directory", type=Path, help="the data folder")

    simulate = command("simulate", _simulate, "make a data folder of simulated galaxies")
    simulate.add_argument("directory", type=Path, help="the data folder to make")
    simulate.add_argument("--galaxies", type=int, default=2400, metavar="N", help="how many")
    simulate.add_argument("--seed", type=int, default=0, metavar="S", help="which ones")
    simulate.add_argument("--processes", type=int, metavar="P", help="side by side (all cores)")
    simulate.add_argument("--replace", action="store_true", help="instead of another simulation")

    download = command("download", _download, "fetch Galaxy Zoo 2 and the paper's labels")
    download.add_argument(
        "what", nargs="*", metavar="WHAT", help="images mapping votes properties labels (all)"
    )
    download.add_argument("--to", type=Path, metavar="DIR", help="the data folder (gz2_data)")
    download.add_argument("--mirror", metavar="URL", help="address or folder of a copy")
    download.add_argument("--images", type=Path, metavar="PATH", help="own images: folder or zip")

    derive = command("derive-labels", _derive, "label tables from volunteers' votes")
    derive.add_argument("votes", type=Path, help="a catalogue of votes of Galaxy Zoo 2")
    derive.add_argument("--to", type=Path, required=True, metavar="DIR", help="where they go")
    derive.add_argument("--mapping", type=Path, metavar="FILE", help="GZ2's file map")
    derive.add_argument("--images", type=Path, metavar="DIR", help="the images, to be linked")
    derive.add_argument("--seed", type=int, default=0, metavar="S", help="of the split")

    explain = command("explain-label", _explain, "why a galaxy got its class")
    explain.add_argument("galaxy", metavar="ID", help="SDSS object id, or the image's name")
    explain.add_argument("--data", type=Path, metavar="DIR", help="the data folder (gz2_data)")
    explain.add_argument("--votes", type=Path, metavar="FILE", help="instead of DIR/downloads")
    for one in (derive, explain):
        one.add_argument("--rule", type=Path, metavar="FILE", help="a rule in YAML")
        one.add_argument("--min-votes", type=int, metavar="N", help="instead of the rule's")

    lab = command("lab", _lab, "open JupyterLab on the notebooks, with the parameters of a run")
    lab.add_argument("results", nargs="?", type=Path, metavar="RESULTS", help="the latest run's")

    site = command("site", _site, "write a run as a static site: its report and its notebooks")
    site.add_argument("results", type=Path, metavar="RESULTS", help="the results folder")
    site.add_argument("--to", type=Path, required=True, metavar="DIR", help="where it goes")

    predict = command("predict", _predict, "classify images with a trained model")
    predict.add_argument(
        "images", nargs="+", metavar="IMAGES", help="images, folders, @LIST, or - (standard input)"
    )
    predict.add_argument("--model", type=Path, required=True, metavar="PATH", help="its folder")
    predict.add_argument("--out", type=Path, required=True, metavar="FILE", help=".csv or .parquet")
    for name, text in PREDICT_FLAGS.items():
        predict.add_argument(name, action="store_true", help=text)
    for name, text in PREDICT_NUMBERS.items():
        predict.add_argument(name, type=int, default=0, metavar="N", help=text)
    predict.add_argument("--device", default="auto", help="cpu, cuda, cuda:1, mps (a GPU if any)")
    return parser


def _run(options: argparse.Namespace) -> None:
    from gz2vit.workflow import run

    names = ("profile", "data", "results", "only", "jobs", "overrides", "retrain", "executor")
    words = {name: getattr(options, name) for name in names}
    run(**words, plan_only=options.plan, options=options.snakemake)


def _execute(options: argparse.Namespace) -> None:
    from gz2vit.workflow import execute

    execute(options.step, Path.cwd())


def _check(options: argparse.Namespace) -> None:
    from gz2vit.catalog import class_composition, read_data_folder
    from gz2vit.images import check_folder

    folder = read_data_folder(options.directory)
    check_folder(folder)
    print(class_composition(folder.tables).to_string())
    print(f"{folder.path}: every table and image is in order")


def _simulate(options: argparse.Namespace) -> None:
    from gz2sim import SimulationError
    from gz2sim.folder import simulate

    words = (options.directory, options.galaxies, options.seed, options.processes)
    try:
        simulate(*words, replace=options.replace)
    except SimulationError as error:
        raise Gz2vitError(str(error)) from error


def _download(options: argparse.Namespace) -> None:
    from gz2vit.download import fetch_galaxy_zoo
    from gz2vit.votes import GALAXY_ZOO_DIR

    fetch_galaxy_zoo(options.to or GALAXY_ZOO_DIR, options.what, options.mirror, options.images)


def _derive(options: argparse.Namespace) -> None:
    from gz2vit.votes import derive_folder

    rule = _rule(options)
    words = (options.votes, options.to, rule, options.seed, options.mapping, options.images)
    done = derive_folder(*words)
    for name, count in done["classes"].items():
        print(f"{name:<26}{count:>9,}")
    if done["without_image"]:
        print(f"{'without an image':<26}{done['without_image']:>9,}")
    splits = ", ".join(f"{count:,} to {split}" for split, count in done["galaxies"].items())
    print(f"{options.to}: label tables by '{rule.name}', {splits}")


def _explain(options: argparse.Namespace) -> None:
    from gz2vit.votes import GALAXY_ZOO_DIR, VOTES_FILE, explain_galaxy

    data = options.data or GALAXY_ZOO_DIR
    print(explain_galaxy(options.galaxy, options.votes or data / VOTES_FILE, _rule(options), data))


def _rule(options: argparse.Namespace):
    """The selection rule that the options ask for."""
    from gz2vit.votes import DEFAULT_RULE, read_rule

    rule = read_rule(options.rule) if options.rule else DEFAULT_RULE
    return rule if options.min_votes is None else replace(rule, min_votes=options.min_votes)


def _lab(options: argparse.Namespace) -> None:
    from gz2vit.lab import open_lab

    open_lab(options.results)


def _site(options: argparse.Namespace) -> None:
    from gz2vit.site import write_site

    print(write_site(options.results, options.to))


def _predict(options: argparse.Namespace) -> None:
    from gz2vit.predict import InferenceOptions, predict_images

    names = ("average", "resize", "strict", "crop_px", "batch_size", "workers", "device")
    chosen = InferenceOptions(**{name: getattr(options, name) for name in names})
    count, broken = predict_images(
        options.model, options.images, options.out, chosen, options.overwrite, options.restart
    )
    line = f"{options.out}: {count - broken:,} images"
    if broken:
        line += f"; {broken:,} broken ones are listed in {options.out}.broken.csv"
    print(line)
