"""Watches what the interpreter does on behalf of a stranger's file."""

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_FORBIDDEN = (
    "pickle.",
    "marshal.load",
    "exec",
    "compile",
    "code.__new__",
    "ctypes.",
    "subprocess.",
    "os.",
    "pty.",
    "shutil.",
    "socket.",
    "tempfile.",
    "urllib.",
    "webbrowser.",
)
_HARMLESS = ("os.listdir", "os.scandir", "os.walk", "os.fwalk")
_SECONDS = 3.0  # of processor time, on any one input

_watching: int | None = None
_seen: list[str] = []
_known_imports: set[str] = set()


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if _watching != threading.get_ident():
        return
    if event == "open":
        mode, flags = arguments[1], arguments[2]
        # O_WRONLY and O_RDWR are the two lowest bits.
        if (isinstance(mode, str) and set(mode) & set("wax+")) or flags & 3:
            _seen.append(f"open {arguments}")
    elif event == "import":
        if arguments[0] not in _known_imports:
            _seen.append(f"import {arguments[0]}")
    elif event.startswith(_FORBIDDEN) and event not in _HARMLESS:
        _seen.append(f"{event} {str(arguments)[:200]}")


sys.addaudithook(_hook)  # for good: Python has no way to take one off


@contextmanager
def watched() -> Iterator[None]:
    """Fails if the body runs, imports, writes or connects to anything, or takes long."""
    global _watching
    _seen.clear()
    start = time.process_time()
    _watching = threading.get_ident()
    try:
        yield
    finally:
        _watching = None
    assert not _seen, _seen[:3]
    assert time.process_time() - start < _SECONDS


@contextmanager
def warming_up() -> Iterator[None]:
    """What the body imports, or tries to, is no surprise later: sndqn's own code asked for it."""
    global _watching
    _seen.clear()
    _watching = threading.get_ident()
    try:
        yield
    finally:
        _watching = None
    names = {line.removeprefix("import ") for line in _seen if line.startswith("import ")}
    _known_imports.update(names, sys.modules)
