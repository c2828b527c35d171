#!/usr/bin/env bash
# Print the Python of the project's environment (replaced by the helper shell of the next commit).
root="$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)"
printf '%s\n' "$root/.venv/bin/python"
