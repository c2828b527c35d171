"""The command `predict`: its options; the work is done by `training.inference`.

A module of its own, so that the command line's help need not wait for PyTorch.
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from gz2vit import __version__
from gz2vit.io import Gz2vitError

if TYPE_CHECKING:
    from gz2vit.votes import Rule


def add_predict(commands: argparse._SubParsersAction) -> None:
    """Add `predict`: a trained network's classes for folders of images."""
    predict = commands.add_parser("predict", help="classify images with a trained model")
    predict.add_argument(
        "images", nargs="+", metavar="IMAGES", help="images, folders, @LIST, or - (standard input)"
    )
    predict.add_argument(
        "--model", type=Path, required=True, metavar="PATH", help="a model's folder or checkpoint"
    )
    predict.add_argument(
        "--out", type=Path, required=True, metavar="FILE", help="the table: .csv or .parquet"
    )
    flags = {
        "--average": "average over the eight flips and quarter turns",
        "--resize": "take images of any size",
        "--strict": "end at the first broken image",
        "--overwrite": "replace a table that is there",
        "--restart": "drop what an interrupted run has left",
    }
    for name, told in flags.items():
        predict.add_argument(name, action="store_true", help=told)
    predict.add_argument(
        "--crop-px", type=int, default=0, metavar="N", help="central square (the model's own)"
    )
    predict.add_argument("--batch-size", type=int, default=0, metavar="N", help="images at once")
    predict.add_argument("--workers", type=int, default=0, metavar="N", help="decoding threads")
    predict.add_argument("--device", default="auto", help="cpu, cuda, cuda:1, mps (a GPU if any)")
    predict.set_defaults(command=run_predict)


def run_predict(options: argparse.Namespace) -> None:
    """Predict, and say in one line what came out."""
    from gz2vit.predict import InferenceOptions, predict_images

    names = ("average", "resize", "strict", "crop_px", "batch_size", "workers", "device")
    chosen = InferenceOptions(**{name: getattr(options, name) for name in names})
    done = predict_images(
        options.model, options.images, options.out, chosen, options.overwrite, options.restart
    )
    told = f"{options.out}: {done.images - done.broken:,} images"
    if done.broken:
        told += f"; {done.broken:,} broken ones are listed in {options.out}.broken.csv"
    print(told)


# ------------------------------------------------------------------------------------------
# The package's command line: `python -m gz2vit --help`.


def main(words: Sequence[str] | None = None) -> int:
    """Run one command; the exit code. An error of the user's is one line, the last one."""
    words, snakemake = _split(list(sys.argv[1:] if words is None else words))
    options = _parser().parse_args(words, argparse.Namespace(snakemake=snakemake))
    try:
        options.command(options)
    except Gz2vitError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        return 1
    except KeyboardInterrupt:
        print("error: stopped from the keyboard; the same command continues", file=sys.stderr)
        return 130
    return 0


def _split(words: list[str]) -> tuple[list[str], list[str]]:
    """The words of `run` before and after `--`: its own, and Snakemake's."""
    if words[:1] != ["run"] or "--" not in words:
        return words, []
    end = words.index("--")
    return words[:end], words[end + 1 :]


def _parser() -> argparse.ArgumentParser:
    """All commands and their options."""
    parser = argparse.ArgumentParser(prog="gz2vit", description=__doc__.splitlines()[0])
    parser.add_argument("--version", action="version", version=f"gz2vit {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_run(commands)
    _add_simulate(commands)
    _add_download(commands)
    _add_votes(commands)
    add_predict(commands)
    check = commands.add_parser("check", help="check a data folder: tables and images")
    check.add_argument("directory", type=Path, help="the data folder")
    check.set_defaults(command=_check)
    execute = commands.add_parser("execute", help="run one notebook as a step of the road")
    execute.add_argument("step", help="name of the step")
    execute.add_argument("notebook", type=Path, help="the notebook")
    execute.add_argument("output", type=Path, help="where the executed notebook goes")
    execute.add_argument("--parameters", default="{}", help="its parameters, as JSON")
    execute.set_defaults(command=_execute)
    return parser


def _add_run(commands: argparse._SubParsersAction) -> None:
    """`run`: what `run_all.sh` calls."""
    run = commands.add_parser(
        "run",
        help="run the whole road, or some steps of it (what ./run_all.sh calls)",
        epilog="All after a -- goes to Snakemake as it is.",
    )
    run.add_argument("profile", nargs="?", default="demo", help="smoke, demo (default) or paper")
    run.add_argument("--data", metavar="DIR", help="data folder; without it galaxies are simulated")
    run.add_argument("--results", metavar="DIR", help="instead of results/<profile>")
    run.add_argument(
        "--only", nargs="+", default=[], metavar="STEP", help="these steps and what they need"
    )
    run.add_argument(
        "--jobs", type=int, metavar="N", help="steps side by side (1; with --executor 16)"
    )
    run.add_argument("--executor", metavar="NAME", help="run the steps on a cluster, such as slurm")
    run.add_argument(
        "--set",
        nargs="+",
        action="extend",
        default=[],
        dest="overrides",
        metavar="[STEP.]NAME=VALUE",
        help="parameters, such as linformer.MAX_EPOCH=30",
    )
    run.set_defaults(command=_run)


def _add_simulate(commands: argparse._SubParsersAction) -> None:
    """`simulate`: a data folder of simulated galaxies."""
    simulate = commands.add_parser("simulate", help="make a data folder of simulated galaxies")
    simulate.add_argument("directory", type=Path, help="the data folder to make")
    simulate.add_argument("--galaxies", type=int, default=2400, metavar="N", help="how many")
    simulate.add_argument("--seed", type=int, default=0, metavar="S", help="which ones")
    cores = os.cpu_count() or 1
    simulate.add_argument("--processes", type=int, default=cores, metavar="P", help="side by side")
    simulate.set_defaults(command=_simulate)


def _add_download(commands: argparse._SubParsersAction) -> None:
    """`download`: the real Galaxy Zoo 2, as a data folder."""
    download = commands.add_parser("download", help="fetch Galaxy Zoo 2 and the paper's labels")
    download.add_argument(
        "what", nargs="*", metavar="WHAT", help="images mapping votes properties labels (all)"
    )
    download.add_argument("--to", type=Path, metavar="DIR", help="the data folder (gz2_data)")
    download.add_argument(
        "--mirror", metavar="URL", help="address or folder of a copy (also GZ2VIT_MIRROR)"
    )
    download.add_argument(
        "--images", type=Path, metavar="PATH", help="images at hand: a folder or a zip"
    )
    download.set_defaults(command=_download)


def _add_votes(commands: argparse._SubParsersAction) -> None:
    """`derive-labels` and `explain-label`: classes from volunteers' votes."""
    derive = commands.add_parser("derive-labels", help="label tables from volunteers' votes")
    derive.add_argument("votes", type=Path, help="a catalogue of votes of Galaxy Zoo 2")
    derive.add_argument("--to", type=Path, required=True, metavar="DIR", help="where they go")
    derive.add_argument("--mapping", type=Path, metavar="FILE", help="GZ2's file map")
    derive.add_argument("--images", type=Path, metavar="DIR", help="the images, to be linked")
    derive.add_argument("--seed", type=int, default=0, metavar="S", help="of the split")
    derive.set_defaults(command=_derive)
    explain = commands.add_parser("explain-label", help="why a galaxy got its class")
    explain.add_argument("galaxy", metavar="ID", help="SDSS object id, or the image's name")
    explain.add_argument("--data", type=Path, metavar="DIR", help="the data folder (gz2_data)")
    explain.add_argument("--votes", type=Path, metavar="FILE", help="instead of DIR/downloads")
    explain.set_defaults(command=_explain)
    for command in (derive, explain):
        command.add_argument("--rule", type=Path, metavar="FILE", help="a rule in YAML")
        command.add_argument("--min-votes", type=int, metavar="N", help="instead of the rule's")


def _run(options: argparse.Namespace) -> None:
    from gz2vit.workflow import make_road, run_road

    words = (options.profile, options.data, options.results, options.only, options.jobs)
    run_road(make_road(*words, options.overrides, options.executor, options.snakemake))


def _simulate(options: argparse.Namespace) -> None:
    from gz2sim.folder import simulate

    simulate(options.directory, options.galaxies, options.seed, options.processes)


def _download(options: argparse.Namespace) -> None:
    from gz2vit.download import fetch_galaxy_zoo
    from gz2vit.votes import GALAXY_ZOO_DIR

    fetch_galaxy_zoo(options.to or GALAXY_ZOO_DIR, options.what, options.mirror, options.images)


def _derive(options: argparse.Namespace) -> None:
    from gz2vit.votes import derive_folder

    rule = _rule(options)
    words = (options.votes, options.to, rule, options.seed, options.mapping, options.images)
    done = derive_folder(*words)
    for name, count in done.classes.items():
        print(f"{name:<26}{count:>9,}")
    if done.without_image:
        print(f"{'without an image':<26}{done.without_image:>9,}")
    splits = ", ".join(f"{count:,} to {split}" for split, count in done.galaxies.items())
    print(f"{options.to}: label tables by '{rule.name}', {splits}")


def _explain(options: argparse.Namespace) -> None:
    from gz2vit.votes import GALAXY_ZOO_DIR, VOTES_FILE, explain_galaxy

    data = options.data or GALAXY_ZOO_DIR
    print(explain_galaxy(options.galaxy, options.votes or data / VOTES_FILE, _rule(options), data))


def _rule(options: argparse.Namespace) -> "Rule":
    """The rule that the options ask for."""
    from gz2vit.votes import DEFAULT_RULE, read_rule

    rule = read_rule(options.rule) if options.rule else DEFAULT_RULE
    return rule if options.min_votes is None else replace(rule, min_votes=options.min_votes)


def _check(options: argparse.Namespace) -> None:
    from gz2vit.catalog import class_composition, read_data_folder
    from gz2vit.images import check_folder

    folder = read_data_folder(options.directory)
    check_folder(folder)
    print(class_composition(folder.tables).to_string())
    print(f"{folder.path}: every table and image is in order")


def _execute(options: argparse.Namespace) -> None:
    from gz2vit.workflow import execute_step, leave_task_launcher

    leave_task_launcher()
    output = options.output.resolve()
    logs = output.parent.parent / "logs"
    execute_step(options.step, options.notebook, output, json.loads(options.parameters), logs)


if __name__ == "__main__":
    sys.exit(main())
