#!/usr/bin/env bash
# Makes the documentation site of docs/ in docs/_build, and checks it. Warnings are errors.
#   ./scripts/docs.sh            then open docs/_build/index.html
set -euo pipefail
cd "$(dirname "$0")/.."
./scripts/install.sh dev
.venv/bin/python -m sphinx -W --keep-going --quiet -b html -d docs/_build/.doctrees docs docs/_build
.venv/bin/python scripts/check_site.py docs/_build
