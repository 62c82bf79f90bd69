"""Tests sndqn with the locked and the newest packages, each in a fresh environment.

    python scripts/versions.py --output docs/data/versions.json --page docs/versions.md

For every Python that is named, an environment with the versions of requirements.lock, and one with
the newest that pyproject.toml admits: the tests below, then the environment is removed. A Linux
torch of PyPI brings CUDA: some 5 GB each, which uv keeps once. It takes an hour. Each row is
written as soon as it is there, and one that is there is left; `--again` makes all anew.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
PACKAGES = ("torch", "gymnasium", "stable_baselines3", "numpy", "ale-py", "pydantic")
EXTRAS = "minatar,box2d,contrib"
# What new versions break first: SB3's insides, torch's compiler, files, a whole training.
_COMPILED = "tests/acceleration/test_compiled_update.py::test_"
TESTS = (
    _COMPILED + "each_compiled_update_is_the_eager_one_with_normalised_convolutions",
    _COMPILED + "what_was_compiled_acts_as_the_policy_does_and_knows_its_layouts",
    _COMPILED + "a_compiled_step_follows_the_learning_rate_and_notices_another_state",
    "tests/policies/test_policies.py",
    "tests/spectral/test_layers.py",
    "tests/envs/test_atari_vector.py",
    "tests/agents/test_sb3_import.py",
    "tests/cli/test_output.py",
)
HEAD = """\
# Versions

`requirements.lock` has the versions that every change is tested with. This table says what else
works: `python scripts/versions.py` makes a fresh environment for each row and runs a choice of the
tests in it, warnings being errors: compiled updates, policies inside Stable-Baselines3, layers
under SN, Atari, agents of Stable-Baselines3, and whole trainings by the command line.

| Python | packages | {names} | passed | failed |
|---|---|{lines}|--:|--:|
{rows}

{failures}"newest" is what an installation without the lock gets. Made {when}; figures in
[`data/versions.json`](data/versions.json).

The compiled update uses parts of torch that torch does not promise to keep. They are imported in
one place: where one is missing, one line says so and what that costs, and training goes on
uncompiled. The optimisers and `sndqn/spectral/torch_context.py` use some more, without a check.
What a compiled update assumes of its networks is looked at before each use
(`sndqn/acceleration/assumptions.py`).
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pythons", nargs="+", default=["3.11", "3.12", "3.13"])
    parser.add_argument("--packages", nargs="+", default=["locked", "newest"])
    parser.add_argument("--output", type=Path, default=ROOT / "docs/data/versions.json")
    parser.add_argument("--page", type=Path, default=ROOT / "docs/versions.md")
    parser.add_argument("--again", action="store_true", help="make rows that are there anew")
    options = parser.parse_args()
    if shutil.which("uv") is None:
        sys.exit("versions.py: needs uv: type pip install uv")
    rows: list[dict[str, Any]] = []
    if options.output.is_file() and not options.again:
        rows = json.loads(options.output.read_text())["rows"]
    for python in options.pythons:
        for packages in options.packages:
            if any((row["python"][:4], row["packages"]) == (python, packages) for row in rows):
                continue
            print(f"Python {python}, {packages} packages", flush=True)
            rows.append(row := measure(python, packages))
            print(json.dumps(row, indent=2), flush=True)
            rows.sort(key=lambda row: (row["python"], row["packages"]))
            write(rows, options.output, options.page)
    write(rows, options.output, options.page)


def measure(python: str, packages: str) -> dict[str, Any]:
    """Makes an environment, tests in it, and removes it."""
    with tempfile.TemporaryDirectory(prefix="sndqn-versions-") as folder:
        env = Path(folder) / "env"
        run("uv", "venv", "--quiet", "--python", python, str(env))
        interpreter = env / "bin" / "python"
        lock = ["--constraint", "requirements.lock"] if packages == "locked" else []
        wanted = ["--editable", f".[{EXTRAS}]", "pytest", "hypothesis"]
        run("uv", "pip", "install", "--quiet", "--python", str(interpreter), *lock, *wanted)
        found = run(str(interpreter), "-c", VERSIONS, *PACKAGES)
        begun = time.monotonic()
        outcome = test(interpreter)
        return {**json.loads(found), "packages": packages, **outcome,
                "seconds": round(time.monotonic() - begun)}  # fmt: skip


VERSIONS = """
import json, platform, sys
from importlib.metadata import version
found = {name: version(name) for name in sys.argv[1:]}
print(json.dumps({"python": platform.python_version(), "versions": found}))
"""


def test(interpreter: Path) -> dict[str, Any]:
    """Runs the tests; returns how many passed, and which failed."""
    command = [str(interpreter), "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "not slow"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [*command, *TESTS], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    counts = {word: int(n) for n, word in re.findall(r"(\d+) (passed|failed|error)", done.stdout)}
    lines = re.findall(r"^(?:FAILED|ERROR) (\S+)(?: - (.*))?$", done.stdout, re.MULTILINE)
    failures = [{"test": name, "reason": reason[:200]} for name, reason in lines]
    if not counts:
        failures.append({"test": "pytest", "reason": (done.stdout + done.stderr)[-300:]})
    failed = counts.get("failed", 0) + counts.get("error", 0)
    return {"passed": counts.get("passed", 0), "failed": failed, "failures": failures}


def run(*command: str) -> str:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"versions.py: {' '.join(command)}: {done.stderr[-1500:]}")
    return done.stdout


def write(rows: list[dict[str, Any]], output: Path, page: Path) -> None:
    """Writes the figures and the page that shows them."""
    when = time.strftime("%-d %B %Y")
    output.write_text(json.dumps({"made": when, "tests": TESTS, "rows": rows}, indent=1) + "\n")
    table = [
        f"| {row['python']} | {row['packages']} | "
        + " | ".join(row["versions"][name] for name in PACKAGES)
        + f" | {row['passed']} | {row['failed']} |"
        for row in rows
    ]
    failures = "".join(
        f"- Python {row['python']}, {row['packages']}: `{each['test']}`: {each['reason']}\n"
        for row in rows
        for each in row["failures"]
    )
    page.write_text(
        HEAD.format(
            names=" | ".join(PACKAGES),
            lines="|".join("---" for _ in PACKAGES),
            rows="\n".join(table),
            failures=failures and f"{failures}\n",
            when=when,
        )
    )


if __name__ == "__main__":
    main()
