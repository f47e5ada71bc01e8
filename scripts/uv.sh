#!/usr/bin/env bash
# Run uv: the one on PATH where it works, else one installed into .venv. Arguments are uv's.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
if uv --version >/dev/null 2>&1; then exec uv "$@"; fi
if [ ! -x .venv/bin/uv ]; then
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-input uv
fi
exec .venv/bin/uv "$@"
