#!/usr/bin/env bash
# Makes .venv beside this folder with the locked versions, if it is not there or the lock changed.
# Needs Python 3.11 or later with pip, and nothing else. The first argument is the set of extras.
set -euo pipefail
cd "$(dirname "$0")/.."
extras=${1:-all}
stamp=".venv/.installed-$extras"
if [ -f "$stamp" ] && [ ! requirements.lock -nt "$stamp" ] && [ ! pyproject.toml -nt "$stamp" ]; then
    exit 0
fi
python=${PYTHON:-$(command -v python3.11 || command -v python3)}
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "expected Python 3.11 or later, found $("$python" --version): set PYTHON=/path/to/python" >&2
    exit 2
}
[ -x .venv/bin/python ] || "$python" -m venv .venv
echo "Installing into .venv (once; a few minutes) ..." >&2
.venv/bin/python -m pip install --quiet --disable-pip-version-check \
    --constraint requirements.lock --editable ".[$extras]"
touch "$stamp"
