#!/usr/bin/env bash
# Installs sndqn into .venv on first use and trains: every argument goes to `sndqn train`.
#   ./scripts/train.sh --env Breakout --sn-layers -2
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
"$here/install.sh" all
exec "$here/../.venv/bin/sndqn" train "$@"
