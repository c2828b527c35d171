#!/usr/bin/env bash
# Run every test: makes the Python environment if there is none, then runs pytest.
#
#   ./run_tests.sh [any arguments of pytest]     for example: ./run_tests.sh tests/unit -k catalog
set -euo pipefail

root="$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd -P)"
export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}" PYTHONNOUSERSITE=1

python="$(bash "$root/gz2vit/environment.sh")"
cd -- "$root"
# Files of tests side by side, up to four; each with one thread, because threads of several
# processes on the same cores wait for each other. `./run_tests.sh -n 0 ...` runs one by one.
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
exec "$python" -P -m pytest --tb=short -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder "$@"
