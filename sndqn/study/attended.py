"""A process that ends when the one that started it does, however that ends."""

import os
import signal
import threading

PARENT = "SNDQN_ENDS_WITH_STDIN"
"""Environment variable of a process whose standard input is a pipe from its parent."""


def end_with_parent() -> None:
    """Has this process asked to end, as by SIGTERM, when its parent is gone.

    The parent holds the other end of a pipe and writes nothing to it; the kernel closes it with
    the parent. Without a parent that says so, nothing happens.
    """
    if os.environ.pop(PARENT, None) is None:
        return
    threading.Thread(target=_wait, daemon=True).start()


def _wait() -> None:
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
