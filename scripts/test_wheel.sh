#!/usr/bin/env bash
# Builds the wheel, installs it into a fresh environment and uses it from outside the tree.
set -euo pipefail
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
.venv/bin/python -m build --wheel --outdir "$work" . > "$work/build.log" 2>&1 || {
    cat "$work/build.log" >&2
    exit 1
}
wheel=$(echo "$work"/*.whl)
.venv/bin/python - "$wheel" <<'PY'
import sys, zipfile

names = zipfile.ZipFile(sys.argv[1]).namelist()
assert "sndqn/shipped/configs/atari/dqn.yaml" in names, "the wheel lacks the configurations"
assert "sndqn/shipped/agents/index.json" in names, "the wheel lacks the agents"
assert "sndqn/py.typed" in names, "the wheel lacks py.typed"
assert not [n for n in names if n.startswith(("tests/", "scripts/", "agents/"))], names
PY
python3 -m venv "$work/venv" 2> /dev/null || .venv/bin/python -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    --constraint requirements.lock "$wheel"
cd "$work"
"$work/venv/bin/sndqn" agents
"$work/venv/bin/sndqn" train --env CartPole --total-timesteps 600 --learning-starts 200 \
    --eval-episodes 2 --runs-dir runs
run=$(echo runs/CartPole-v1/*)
"$work/venv/bin/sndqn" inspect "$run"
"$work/venv/bin/sndqn" replay "$run"
echo "wheel: trained, inspected and replayed outside the tree"
