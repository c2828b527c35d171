# Sourced by the project's scripts, with `root` set to its folder: `find_python` prints a Python 3.11
# or newer, `use_environment` sets `python` to the one that has all packages: of an active conda
# environment made from environment.yml, of a .venv that is a link, or of the .venv that uv makes
# from requirements.txt, and syncs again when something changed or a sync was interrupted.

# Nothing that the user has set for other Python projects takes part.
unset CDPATH PYTEST_ADDOPTS "${!PYTHON@}"
export PYTHONPATH="$root" PYTHONNOUSERSITE=1 PYTHONUTF8=1
venv="$root/.venv"

fail() { echo "error: $*" >&2; exit 1; }

# The first Python that is new enough and can `import $1`; not .venv's, which may be made anew.
find_python() {
    local candidate candidates=("$venv/bin/python" python3 python python3.1{2,3,1,4})
    [ -z "${GZ2VIT_PYTHON:-}" ] || candidates=("$GZ2VIT_PYTHON")
    for candidate in "${candidates[@]}"; do
        "$candidate" -I -S -c "import sys, $1; assert sys.version_info >= (3, 11)
print(getattr(sys, '_base_executable', sys.executable))" </dev/null 2>/dev/null && return
    done
    fail "no Python 3.11 or newer with $1 in ${candidates[*]}: install one (Debian, Ubuntu: apt" \
        "install python3-venv) or name it in GZ2VIT_PYTHON"
}

# From the user's pip settings keep how to reach the registry, for pip and for uv; nothing else.
keep_registry_settings() {
    unset PIP_USER PIP_GLOBAL PIP_SITE # they would choose among the files that are read
    settings="$("$venv/bin/python" -I -m pip config list | sed 's/\\n/ /g')"
    unset "${!PIP_@}" UV_SYSTEM_PYTHON UV_CONSTRAINT UV_OVERRIDE UV_REQUIRE_HASHES UV_PYTHON
    export PIP_CONFIG_FILE=/dev/null UV_INDEX_STRATEGY="${UV_INDEX_STRATEGY:-unsafe-best-match}"
    for name in index-url:UV_DEFAULT_INDEX extra-index-url:UV_INDEX find-links:UV_FIND_LINKS \
        no-index:UV_NO_INDEX cert:SSL_CERT_FILE proxy:ALL_PROXY; do
        for_uv="${name#*:}" name="${name%:*}"
        value="$(sed -n "s/^[^=]*\.$name='\(.*\)'$/\1/p" <<<"$settings" | head -n 1)"
        [ -z "$value" ] || export "PIP_$(tr a-z- A-Z_ <<<"$name")=$value" "$for_uv=${!for_uv:-$value}"
    done
}

minor_version() { "$1" -I -S -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null; }
has_python() { found="$(minor_version "$venv/bin/python")" && [ "${wanted:-$found}" = "$found" ]; }
is_ready() { [ "$(cat -- "$venv/gz2vit-stamp" 2>/dev/null)" = "$stamp" ] && has_python; }

sync_environment() { # in a subshell
    base="$(find_python ensurepip)" || exit 1
    # Without a stamp a kill may have left a package in pieces that looks installed.
    if [ ! -e "$venv/gz2vit-stamp" ] || ! has_python; then
        echo "Making the Python environment $venv (once; several GB to download)."
        "$base" -I -m venv --clear "$venv" || fail "cannot make $venv: see above"
    fi
    rm -f -- "$venv/gz2vit-stamp" || fail "cannot write into $venv"
    mkdir -p -- "${UV_CACHE_DIR:-${XDG_CACHE_HOME:-${HOME:-/nonexistent}/.cache}/uv}" 2>/dev/null ||
        export UV_CACHE_DIR="$venv/uv-cache"
    keep_registry_settings
    uv="$venv/bin/uv"
    { [ -x "$uv" ] || "$venv/bin/python" -I -m pip -q install "$(grep ^uv== "$root/requirements.txt")"; } &&
        "$uv" venv --quiet --allow-existing --relocatable --python "$base" "$venv" &&
        "$uv" pip sync --python "$venv/bin/python" "$root/requirements.txt" &&
        "$uv" pip install -q --python "$venv/bin/python" --no-deps --no-build-isolation -e "$root" ||
        fail "packages are missing: check the network and the disk (10 GB), then try again"
    echo "$stamp" >"$venv/gz2vit-stamp"
}

use_environment() {
    python="$venv/bin/python" wanted="${GZ2VIT_PYTHON:+$(minor_version "${GZ2VIT_PYTHON:-}" || echo none)}"
    stamp="$(cat -- "$root/requirements.txt" "$root/pyproject.toml" | cksum) $root"
    if [ -z "$wanted" ] && [ -x "${CONDA_PREFIX:-/nonexistent}/bin/gz2vit" ]; then
        python="$CONDA_PREFIX/bin/python"
    elif [ ! -L "$venv" ] && ! is_ready; then
        ( # uv inherits the lock, so that it holds even where this shell is killed.
            flock -n 9 || { echo "Waiting for another command that makes .venv." && flock 9; } ||
                echo "There are no locks here: start no second command before .venv is made."
            is_ready || sync_environment
        ) 9>"$root/.venv.lock" >&2 || exit 1
    fi
}
