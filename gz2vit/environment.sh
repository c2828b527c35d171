#!/usr/bin/env bash
# Print the path of the Python to use, after making the project's environment if there is none.
# Finds a Python 3.11 or newer and hands over to environment.py; all messages go to stderr.
#
#   environment.sh         make the environment if needed
#   environment.sh --any   make nothing: any Python 3.11 or newer will do
#
# GZ2VIT_PYTHON names the Python to make .venv with, instead of the first one found.
set -euo pipefail

root="$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)"

# 0: Python 3.11 or newer that can make environments; 3: new enough, but without ensurepip, which
# Debian packs apart; anything else: too old, or does not run.
rate() {
    "$1" -I -S -c 'import sys
if sys.version_info < (3, 11): sys.exit(4)
from importlib.util import find_spec
sys.exit(0 if find_spec("ensurepip") else 3)' </dev/null >/dev/null 2>&1
}

python=""
if [ -n "${GZ2VIT_PYTHON:-}" ]; then
    candidates=("$GZ2VIT_PYTHON")
else
    # An active conda environment first, then .venv, whose Python stays what it was made with.
    candidates=("${CONDA_PREFIX:-/nonexistent}/bin/python" "$root/.venv/bin/python" python3 python
        python3.12 python3.13 python3.11 python3.14)
fi
for candidate in "${candidates[@]}"; do
    if rate "$candidate"; then
        python="$candidate"
        break
    elif [ $? -eq 3 ] && [ -z "$python" ]; then
        python="$candidate"
    fi
done

if [ -z "$python" ]; then
    if [ -n "${GZ2VIT_PYTHON:-}" ]; then
        echo "error: GZ2VIT_PYTHON=$GZ2VIT_PYTHON is not a Python 3.11 or newer" >&2
    else
        echo "error: no Python 3.11 or newer was found: install one, or name it in GZ2VIT_PYTHON" >&2
    fi
    exit 1
fi

if [ "${1:-}" = "--any" ]; then
    printf '%s\n' "$python"
    exit 0
fi
# Isolated (-I): nothing that the user has set for other projects takes part.
exec "$python" -I -c 'import sys
sys.path.insert(0, sys.argv[1])
from gz2vit.environment import main
sys.exit(main())' "$root"
