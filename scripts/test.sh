#!/usr/bin/env bash
# Installs sndqn with its development tools into .venv on first use and runs the tests.
#   ./scripts/test.sh            the default tests
#   ./scripts/test.sh --slow     every test
#   ./scripts/test.sh ARGS       ARGS go to pytest
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
"$here/install.sh" dev
cd "$here/.."
selection=(-m "not slow")
if [ "${1:-}" = "--slow" ]; then
    selection=()
    shift
fi
exec .venv/bin/python -m pytest "${selection[@]}" "$@"
