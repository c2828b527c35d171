# Sourced by the project's scripts, with `root` set to its folder: `find_python` prints a Python
# 3.11 or newer, `use_environment` sets `python` to the one that has all packages.
#
# An active conda environment made from environment.yml is used as it is, and so is a .venv that is
# a link. Otherwise .venv is made with uv from requirements.txt (by GZ2VIT_PYTHON, if set), and synced
# again when that file, pyproject.toml or the folder's place has changed or a sync was interrupted.

# Nothing that the user has set for other Python projects takes part.
unset CDPATH PYTEST_ADDOPTS "${!PYTHON@}"
export PYTHONPATH="$root" PYTHONNOUSERSITE=1 PYTHONUTF8=1
venv="$root/.venv"

fail() {
    echo "error: $*" >&2
    exit 1
}

version() { "$1" -I -S -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null; }

# The first Python that is new enough and can `import $1`.
find_python() {
    local candidate candidates=("$venv/bin/python" "${CONDA_PREFIX:-/nonexistent}/bin/python"
        python3 python python3.12 python3.13 python3.11 python3.14)
    [ -z "${GZ2VIT_PYTHON:-}" ] || candidates=("$GZ2VIT_PYTHON")
    for candidate in "${candidates[@]}"; do
        # The base of a virtual environment: .venv itself may be about to be made anew.
        "$candidate" -I -S -c "import sys, $1; assert sys.version_info >= (3, 11)
print(getattr(sys, '_base_executable', sys.executable))" </dev/null 2>/dev/null && return
    done
    fail "no Python 3.11 or newer with $1 in ${candidates[*]}: install one (Debian, Ubuntu: apt" \
        "install python3-venv) or name it in GZ2VIT_PYTHON"
}

# From the user's pip settings keep how to reach the registry, for pip and for uv; nothing else.
keep_registry_settings() {
    local settings name for_uv value
    unset PIP_USER PIP_GLOBAL PIP_SITE # they would choose among the files that are read
    settings="$("$venv/bin/python" -I -m pip config list | sed 's/\\n/ /g')"
    unset "${!PIP_@}" UV_SYSTEM_PYTHON UV_CONSTRAINT UV_OVERRIDE UV_REQUIRE_HASHES UV_PYTHON
    export PIP_CONFIG_FILE=/dev/null PIP_DISABLE_PIP_VERSION_CHECK=1
    export UV_INDEX_STRATEGY="${UV_INDEX_STRATEGY:-unsafe-best-match}"
    for name in index-url:UV_DEFAULT_INDEX extra-index-url:UV_INDEX find-links:UV_FIND_LINKS \
        no-index:UV_NO_INDEX cert:SSL_CERT_FILE proxy:ALL_PROXY; do
        for_uv="${name#*:}" name="${name%:*}"
        value="$(sed -n "s/^[^=]*\.$name='\(.*\)'$/\1/p" <<<"$settings" | head -n 1)"
        [ -z "$value" ] || export "PIP_$(tr a-z- A-Z_ <<<"$name")=$value" "$for_uv=${!for_uv:-$value}"
    done
}

runs_wanted_python() {
    local minor
    minor="$(version "$venv/bin/python")" && [ "$minor" = "$(version "${GZ2VIT_PYTHON:-$venv/bin/python}")" ]
}

is_ready() { [ "$(cat -- "$venv/gz2vit-stamp" 2>/dev/null)" = "$stamp" ] && runs_wanted_python; }

sync_environment() {
    local base cache sync=packages again="run the same command again (finished downloads are kept)"
    base="$(find_python ensurepip)" || exit 1
    # A kill may have left a package in pieces that looks installed.
    if [ -e "$venv/unfinished" ] || ! runs_wanted_python; then
        echo "Making the Python environment $venv (once; several GB to download)." >&2
        "$base" -I -m venv --clear "$venv" >&2 || fail "cannot make $venv: see above"
    fi
    # A moved folder needs no package and no network.
    [ "$(head -n 1 "$venv/gz2vit-stamp" 2>/dev/null)" != "${stamp%$'\n'*}" ] || sync=nothing
    rm -f -- "$venv/gz2vit-stamp"
    touch -- "$venv/unfinished" || fail "cannot write into $venv"
    cache="${UV_CACHE_DIR:-${XDG_CACHE_HOME:-${HOME:-/nonexistent}/.cache}/uv}"
    { mkdir -p -- "$cache" && [ -w "$cache" ]; } 2>/dev/null || export UV_CACHE_DIR="$venv/uv-cache"
    [ -x "$venv/bin/pip" ] || "$venv/bin/python" -I -m ensurepip >/dev/null
    keep_registry_settings
    {
        { [ -x "$venv/bin/uv" ] || "$venv/bin/python" -I -m pip --quiet install --no-input \
            "$(grep '^uv==' "$root/requirements.txt")"; } &&
            "$venv/bin/uv" venv --quiet --allow-existing --relocatable --python "$base" "$venv" &&
            { [ "$sync" = nothing ] ||
                "$venv/bin/uv" pip sync --python "$venv/bin/python" "$root/requirements.txt"; } &&
            "$venv/bin/uv" pip install --quiet --python "$venv/bin/python" --no-deps \
                --no-build-isolation --editable "$root"
    } >&2 || fail "packages are missing: check the network and that 10 GB are free, then $again"
    rm -- "$venv/unfinished"
    printf '%s\n' "$stamp" >"$venv/gz2vit-stamp"
}

use_environment() {
    local stamp
    python="$venv/bin/python"
    stamp="$(cat -- "$root/requirements.txt" "$root/pyproject.toml" | cksum)"$'\n'"$root"
    if [ -z "${GZ2VIT_PYTHON:-}" ] && [ -x "${CONDA_PREFIX:-/nonexistent}/bin/gz2vit" ]; then
        python="$CONDA_PREFIX/bin/python"
    elif [ ! -L "$venv" ] && ! is_ready; then
        (
            # uv inherits the lock, so that it holds even where this shell is killed.
            flock -n 9 2>/dev/null ||
                { echo "Another command is making .venv: waiting for it." >&2 && flock 9 2>/dev/null; } ||
                echo "There are no locks here: start no second command before .venv is made." >&2
            is_ready || sync_environment
        ) 9>"$root/.venv.lock" || exit 1
    fi
}
