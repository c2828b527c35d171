#!/usr/bin/env bash
# Run the whole reproduction: makes the Python environment if there is none, then runs every step.
#
#   ./run_all.sh [PROFILE] [--data DIR] [--results DIR] [--only STEP...] [--jobs N]
#                [--set KEY=VALUE...] [--executor NAME] [-- OPTIONS OF SNAKEMAKE...]
#
# `./run_all.sh --help` explains the options. PROFILE is smoke, demo (the default) or paper.
set -euo pipefail

root="$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd -P)"
# This folder's package, whatever folder the command is given in; no packages of the user's home.
export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}" PYTHONNOUSERSITE=1

# Help needs no packages, so it does not wait for them.
for argument in "$@"; do
    case "$argument" in
        --) break ;; # what follows is Snakemake's
        -h | --help)
            python="$(bash "$root/gz2vit/environment.sh" --any)"
            exec "$python" -P -m gz2vit run --help
            ;;
    esac
done

python="$(bash "$root/gz2vit/environment.sh")"
exec "$python" -P -m gz2vit run "$@"
