#!/usr/bin/env bash
# Run the whole reproduction: makes the Python environment if there is none, then runs every step.
#
#   ./run_all.sh [PROFILE] [--data DIR] [--results DIR] [--only STEP...] [--jobs N]
#                [--from FILE|URL] [--set KEY=VALUE...] [--executor NAME] [-- OPTIONS OF SNAKEMAKE...]
#
# `./run_all.sh --help` explains the options. PROFILE is smoke, demo (the default), paper or published.
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@" # started as `sh run_all.sh`
set -euo pipefail

root="$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")"
source "$root/gz2vit/environment.sh"

# Help needs no packages, so it does not wait for them.
for argument in "$@"; do
    case "$argument" in
        --) break ;; # what follows is Snakemake's
        -h | --help)
            python="$(find_python os)"
            exec "$python" -P -m gz2vit run --help
            ;;
    esac
done

use_environment
exec "$python" -P -m gz2vit run "$@"
