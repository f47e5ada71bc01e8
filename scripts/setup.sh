#!/usr/bin/env bash
# Make .venv with everything development needs. `make setup` calls this; users who only want the program
# can `pip install .` instead.
#
# Environment:
#   PYTHON     the interpreter to use (default: the first suitable one found)
#   INSTALLER  uv or pip (default: uv where it is found, else pip)
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
venv=.venv

say() { printf 'setup: %s\n' "$*" >&2; }

# A name on PATH proves nothing: a pyenv shim exists for versions that are not active. So run it.
suitable() {
    "$1" -c 'import sys; raise SystemExit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' >/dev/null 2>&1
}

find_python() {
    if [ -n "${PYTHON:-}" ]; then
        suitable "$PYTHON" && { echo "$PYTHON"; return; }
        say "PYTHON=$PYTHON does not run, or is not Python 3.11 to 3.14."
        exit 2
    fi
    local name
    for name in python3 python3.13 python3.12 python3.11 python3.14 python; do
        if suitable "$name"; then echo "$name"; return; fi
    done
    # Where pyenv manages versions, the interpreters are there even when no shim points at them.
    for name in "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.1[1-4].*/bin/python; do
        if suitable "$name"; then echo "$name"; return; fi
    done
}

no_python() {
    say "no Python 3.11 to 3.14 was found (tried python3, python3.11 … python3.14, python, pyenv's versions)."
    say "Install one, for instance:"
    say "  Debian or Ubuntu   sudo apt-get install python3 python3-venv"
    say "  macOS              brew install python@3.13"
    say "  anywhere           install uv (https://docs.astral.sh/uv/), which brings its own Python"
    say "or name one: make setup PYTHON=/path/to/python3.11"
    exit 2
}

install_with_uv() {
    local interpreter=$1
    [ -n "$interpreter" ] || interpreter=3.11 # uv fetches it
    # The lock gives everybody the same versions. --inexact leaves what you added to .venv yourself.
    say "installing the locked versions with uv"
    if uv sync --frozen --inexact --quiet --python "$interpreter" --extra dev --extra docs; then return; fi
    say "that did not work; resolving afresh with uv"
    [ -x $venv/bin/python ] || uv venv --quiet --python "$interpreter" $venv
    uv pip install --quiet --python $venv/bin/python -e ".[dev,docs]"
}

make_venv_with_pip() {
    local interpreter=$1
    "$interpreter" -m venv $venv >/dev/null 2>&1 && return
    # Debian splits ensurepip off into python3-venv; a pip of 22.3 or later can do without it.
    rm -rf $venv
    if "$interpreter" -m venv --without-pip $venv >/dev/null 2>&1 &&
        "$interpreter" -m pip --python $venv/bin/python install --quiet pip; then
        return
    fi
    rm -rf $venv
    say "$interpreter cannot make a virtual environment; on Debian or Ubuntu: sudo apt-get install python3-venv"
    exit 2
}

install_with_pip() {
    local interpreter=$1
    [ -n "$interpreter" ] || no_python
    [ -x $venv/bin/python ] || make_venv_with_pip "$interpreter"
    $venv/bin/python -m pip --version >/dev/null 2>&1 || $venv/bin/python -m ensurepip --upgrade >/dev/null
    say "installing with pip (PyTorch is large; this takes a few minutes)"
    $venv/bin/python -m pip install --quiet --disable-pip-version-check --no-input -e ".[dev,docs]"
}

# An environment left by a Python that has gone, or is too old, is made again; a good one is kept.
if [ -e $venv ] && ! suitable $venv/bin/python; then
    say "$venv does not work with this project; making it again"
    rm -rf $venv
fi

if [ -e $venv ]; then python=$venv/bin/python; else python=$(find_python); fi

installer=${INSTALLER:-}
if [ -z "$installer" ]; then
    if uv --version >/dev/null 2>&1; then installer=uv; else installer=pip; fi
fi
case $installer in
    uv) install_with_uv "$python" ;;
    pip) install_with_pip "$python" ;;
    *) say "INSTALLER=$installer: must be uv or pip"; exit 2 ;;
esac
