"""What this machine has of what trainings need: one finding after another."""

import importlib.util
import os
import platform
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

Verdict = Literal["ok", "note", "wrong"]

# The extras whose packages are looked for, by a module of each.
_EXTRAS = {
    "minatar": "minatar",
    "box2d": "Box2D",
    "contrib": "sb3_contrib",
    "hub": "huggingface_hub",
    "onnx": "onnx",
    "report": "matplotlib",
    "tune": "optuna",
}
_GB = 1e9
# What a full replay of Atari's default takes: a frame of 84 x 84 a step, and what belongs to it.
_ATARI_BYTES_PER_STEP = 7_060
_FREE_DISK = 2 * _GB


@dataclass(frozen=True)
class Finding:
    """Something that was looked at.

    Attributes:
        name: What.
        verdict: "ok"; "note" where something works less well or not at all, but trainings do;
            "wrong" where trainings do not.
        text: What was found.
        remedy: What to type, where something can be done.
        data: The numbers in it.
    """

    name: str
    verdict: Verdict
    text: str
    remedy: str = ""
    data: dict[str, Any] = field(default_factory=dict)


def look(runs_dir: str) -> Iterator[Finding]:
    """Looks at everything but speed.

    Args:
        runs_dir: Where runs will be made.
    """
    yield versions()
    yield extras()
    yield cores()
    yield compiler()
    yield gpu()
    yield memory()
    yield disk(Path(runs_dir))
    yield display()
    yield video()


def versions() -> Finding:
    """Compares the versions of what results depend on with the tested ones."""
    tested = dict(line.split("==") for line in _tested().splitlines() if line)
    here = {name: _version(name) for name in tested}
    other = [
        f"{name} {found or 'missing'} (tested: {tested[name]})"
        for name, found in here.items()
        if found is None or found.partition("+")[0] != tested[name]
    ]
    python = platform.python_version()
    data = {"python": python, "here": here, "tested": tested}
    whole = f"Python {python}; {', '.join(f'{n} {v}' for n, v in here.items() if v)}"
    if not other:
        return Finding("versions", "ok", f"{whole}: as tested", data=data)
    names = " ".join(f"{name}=={tested[name]}" for name in tested if here[name] != tested[name])
    text = f"Python {python}; not the tested versions: {', '.join(other)}"
    return Finding("versions", "note", text, f"For those tested: pip install {names}", data=data)


def _tested() -> str:
    return (Path(__file__).parent / "tested.txt").read_text(encoding="utf-8")


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def extras() -> Finding:
    """Says which optional packages are missing."""
    missing = [
        extra for extra, module in _EXTRAS.items() if importlib.util.find_spec(module) is None
    ]
    if not missing:
        return Finding("extras", "ok", f"all installed: {', '.join(_EXTRAS)}")
    return Finding(
        "extras",
        "note",
        f"not installed: {', '.join(missing)}",
        f'To have them: pip install "sndqn[{",".join(missing)}]"',
        {"missing": missing},
    )


def cores() -> Finding:
    """Says how many cores and threads there are, and whether others use them."""
    import torch

    there = os.cpu_count() or 1
    ours = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else there
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    threads = torch.get_num_threads()
    data = {"cores": there, "usable": ours, "threads": threads, "load": load}
    text = f"{ours} of {there} cores, torch uses {threads} threads, load {load:.1f}"
    if load > ours:
        remedy = "Others use the cores: trainings are slower now than by themselves"
        return Finding("cores", "note", text, remedy, data)
    return Finding("cores", "ok", text, data=data)


def compiler() -> Finding:
    """Looks for the compiler that updates are compiled by."""
    from sndqn.algorithms.acceleration import COST, find_acceleration

    found = find_acceleration()
    path = next(filter(None, map(shutil.which, ("g++", "clang++"))), None)
    if found is None or path is None:
        return Finding(
            "compiler",
            "note",
            f"no g++ or clang++: updates run without acceleration, {COST}",
            "On Debian or Ubuntu: sudo apt install g++",
        )
    line = _first_line([path, "--version"])
    return Finding("compiler", "ok", f"{path}: {line}", data={"path": path})


def gpu() -> Finding:
    """Looks for a GPU that this torch can use."""
    import torch

    built = torch.version.cuda
    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        return Finding("GPU", "ok", f"CUDA {built}: {', '.join(names)}", data={"gpus": names})
    if shutil.which("nvidia-smi") and built is None:
        return Finding(
            "GPU",
            "note",
            "there is one, but this torch is built for the CPU alone",
            "pytorch.org/get-started has the command for a torch with CUDA",
        )
    text = "none that torch can use: trainings run on the CPU, for which the defaults are made"
    return Finding("GPU", "ok", text, data={"gpus": []})


def memory() -> Finding:
    """Compares the free memory with what a full replay of Atari's default takes."""
    from sndqn.training.config_files import read_config

    size = int(read_config("atari/dqn")["buffer_size"])
    need, free = size * _ATARI_BYTES_PER_STEP, _free_memory()
    data = {"free_bytes": free, "replay_bytes": need}
    if free is None:
        return Finding("memory", "note", "could not be found out", data=data)
    text = (
        f"{free / _GB:.1f} GB free; Atari's replay of {size:,} steps grows to {need / _GB:.1f} GB"
    )
    if free > 1.2 * need:
        return Finding("memory", "ok", text, data=data)
    fitting = max(int(free / 1.5 / _ATARI_BYTES_PER_STEP) // 50_000 * 50_000, 50_000)
    remedy = f"For Atari: --buffer-size {fitting}. MinAtar and CartPole need less than 1 GB"
    return Finding("memory", "note", text, remedy, data)


def _free_memory() -> int | None:
    """Returns the bytes that a new process may take; of a container no more than its limit."""
    free = None
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = next(int(n.split()[1]) * 1024 for n in lines if n.startswith("MemAvailable"))
    except (OSError, StopIteration):
        if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
            return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
        used = int(Path("/sys/fs/cgroup/memory.current").read_text())
        if limit.isdigit():
            free = min(free or int(limit), max(int(limit) - used, 0))
    except (OSError, ValueError):
        pass
    return free


def disk(runs_dir: Path) -> Finding:
    """Looks at the disk that runs are written to."""
    place = runs_dir.absolute()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    data = {"runs_dir": str(runs_dir), "free_bytes": free}
    text = f"{free / _GB:.1f} GB free for {runs_dir}; an Atari run in training takes about 0.5 GB"
    if not os.access(place, os.W_OK):
        return Finding(
            "disk",
            "wrong",
            f"{place} may not be written to",
            "Name a folder of your own: export SNDQN_RUNS_DIR=~/runs",
            data,
        )
    if free < _FREE_DISK:
        remedy = "Name one with more room: export SNDQN_RUNS_DIR=/FOLDER"
        return Finding("disk", "note", text, remedy, data)
    return Finding("disk", "ok", text, data=data)


def display() -> Finding:
    """Looks for a display, which `sndqn watch` needs."""
    from sndqn.errors import ConfigError
    from sndqn.evaluation.window import Window

    try:
        with Window("sndqn doctor", ""):
            return Finding("display", "ok", "there is one: sndqn watch opens a window")
    except ConfigError:
        text = "none: sndqn watch has no window to open"
        return Finding("display", "note", text, "sndqn replay writes videos instead")


def video() -> Finding:
    """Looks for the ffmpeg that writes videos."""
    try:
        from imageio_ffmpeg import get_ffmpeg_exe

        path = get_ffmpeg_exe()
        line = _first_line([path, "-version"])
    except (ImportError, RuntimeError, OSError) as error:
        text = f"no ffmpeg that runs: {error}"
        return Finding("video", "note", text, "To have one: pip install imageio-ffmpeg")
    return Finding("video", "ok", line.partition(" Copyright")[0], data={"path": path})


def _first_line(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    return (done.stdout.splitlines() or ["does not run"])[0]
