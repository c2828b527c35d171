#!/usr/bin/env bash
# Run every test: makes the Python environment if there is none, then runs pytest.
#
#   ./run_tests.sh [any arguments of pytest]     for example: ./run_tests.sh tests/unit -k catalog
set -euo pipefail

root="$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd -P)"
export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}" PYTHONNOUSERSITE=1

python="$(bash "$root/gz2vit/environment.sh")"
cd -- "$root"
exec "$python" -P -m pytest --tb=short "$@"
