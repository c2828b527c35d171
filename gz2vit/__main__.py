"""The package's command line: `python -m gz2vit --help`."""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from gz2vit import __version__
from gz2vit.errors import Gz2vitError


def main(words: Sequence[str] | None = None) -> int:
    """Run one command; the exit code. An error of the user's is one line, the last one."""
    options = _parser().parse_args(words)
    try:
        options.command(options)
    except Gz2vitError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        return 1
    except KeyboardInterrupt:
        print("error: stopped from the keyboard; the same command continues", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    """All commands and their options."""
    parser = argparse.ArgumentParser(prog="gz2vit", description=__doc__.splitlines()[0])
    parser.add_argument("--version", action="version", version=f"gz2vit {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_run(commands)
    _add_simulate(commands)
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
        "run", help="run the whole road, or some steps of it (what ./run_all.sh calls)"
    )
    run.add_argument("profile", nargs="?", default="demo", help="smoke, demo (default) or paper")
    run.add_argument("--data", metavar="DIR", help="data folder; without it galaxies are simulated")
    run.add_argument("--results", metavar="DIR", help="instead of results/<profile>")
    run.add_argument(
        "--only", nargs="+", default=[], metavar="STEP", help="these steps and what they need"
    )
    run.add_argument("--jobs", type=int, default=1, metavar="N", help="steps side by side")
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


def _run(options: argparse.Namespace) -> None:
    from gz2vit.pipeline import make_road, run_road

    words = (options.profile, options.data, options.results, options.only, options.jobs)
    run_road(make_road(*words, options.overrides))


def _simulate(options: argparse.Namespace) -> None:
    from gz2vit.simulation import simulate

    simulate(options.directory, options.galaxies, options.seed, options.processes)


def _check(options: argparse.Namespace) -> None:
    from gz2vit.catalog import class_composition, read_data_folder
    from gz2vit.data import check_folder

    folder = read_data_folder(options.directory)
    check_folder(folder)
    print(class_composition(folder.tables).to_string())
    print(f"{folder.path}: every table and image is in order")


def _execute(options: argparse.Namespace) -> None:
    from gz2vit.execution import execute_step

    output = options.output.resolve()
    logs = output.parent.parent / "logs"
    execute_step(options.step, options.notebook, output, json.loads(options.parameters), logs)


if __name__ == "__main__":
    sys.exit(main())
