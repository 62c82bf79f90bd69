"""The scripts ask for what they need before they measure anything."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parent.parent / "scripts"
# Stands for an installation without a module: Python then finds no such one.
WITHOUT = """
import importlib.util, runpy, sys
find, missing = importlib.util.find_spec, sys.argv[1]
importlib.util.find_spec = lambda name, *a: None if name == missing else find(name, *a)
del sys.argv[:2]
sys.path.insert(0, {scripts!r})
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def refusal(script: str, missing: str, *options: str) -> str:
    code = WITHOUT.format(scripts=str(SCRIPTS))
    done = subprocess.run(
        [sys.executable, "-c", code, missing, str(SCRIPTS / script), *options],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith(script)
    return line


@pytest.mark.parametrize(
    ("script", "missing", "package", "options"),
    [
        ("benchmark_dqn.py", "cv2", "opencv-python-headless", []),
        (
            "compare_learning.py",
            "minatar",
            "MinAtar",
            ["--env", "MinAtar/Breakout", "--output", "x.json"],
        ),
        ("plot_broken_target.py", "matplotlib", "matplotlib", []),
    ],
)
def test_a_script_asks_for_a_missing_package_before_it_begins(
    script: str, missing: str, package: str, options: list[str]
) -> None:
    assert f"type pip install {package}" in refusal(script, missing, *options)


def test_a_script_asks_for_the_folder_of_its_output_before_it_begins(tmp_path: Path) -> None:
    output = str(tmp_path / "none" / "x.json")
    assert "--output" in refusal("measure_sigma.py", "", "--output", output)
