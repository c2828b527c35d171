#!/usr/bin/env bash
# Run every test: makes the Python environment if there is none, then runs pytest.
#
#   ./run_tests.sh [any arguments of pytest]     for example: ./run_tests.sh tests/test_catalog.py
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@" # started as `sh run_tests.sh`
set -euo pipefail

root="$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")"
source "$root/gz2vit/environment.sh"

use_environment
cd -- "$root"
# Files of tests side by side, up to four, in the order of tests/conftest.py; each with one thread,
# because threads of several processes wait for each other. `./run_tests.sh -n 0 ...`: one by one.
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
exec "$python" -P -m pytest --tb=short -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder "$@"
