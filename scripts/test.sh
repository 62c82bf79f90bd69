#!/usr/bin/env bash
# Installs sndqn with its development tools into .venv on first use and runs the tests on all cores.
#   ./scripts/test.sh            the default tests
#   ./scripts/test.sh --slow     every test
#   ./scripts/test.sh ARGS       ARGS go to pytest; -n 0 runs in one process
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
"$here/install.sh" dev
cd "$here/.."
selection=(-m "not slow")
if [ "${1:-}" = "--slow" ]; then
    selection=()
    shift
fi
# One process a core: threads within each would wait for one another.
export OMP_NUM_THREADS=1
exec .venv/bin/python -m pytest -n auto "${selection[@]}" "$@"
