"""What a script needs, asked for before it measures anything for minutes."""

import importlib.util
import sys
from pathlib import Path

# The package to install, by the module that is imported.
PACKAGES = {
    "cv2": "opencv-python-headless",  # Stable-Baselines3's Atari wrappers
    "matplotlib": "matplotlib",
    "minatar": "MinAtar",
}


def need(*modules: str, output: Path | None = None) -> None:
    """Ends the script with one line, and status 2, if something is missing.

    Args:
        modules: Of packages, keys of `PACKAGES`.
        output: A file it will write at the end.
    """
    missing = [PACKAGES[name] for name in modules if importlib.util.find_spec(name) is None]
    problem = None
    if missing:
        problem = f"needs {', '.join(missing)}: type pip install {' '.join(missing)}"
    elif output is not None and not output.absolute().parent.is_dir():
        problem = f"--output: {output.parent} is no folder: make it, or name another"
    if problem is not None:
        print(f"{Path(sys.argv[0]).name}: {problem}", file=sys.stderr)
        raise SystemExit(2)
