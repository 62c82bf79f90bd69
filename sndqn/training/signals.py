"""Being asked to stop, by Ctrl-C or by a scheduler, and stopping where nothing is lost."""

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

STOPPED_AHEAD = 128 + 10
"""Exit status after SIGUSR1, which schedulers of clusters send ahead of the end."""
# Windows has none.
SIGNALS = (signal.SIGINT, signal.SIGTERM, *([signal.SIGUSR1] if hasattr(signal, "SIGUSR1") else []))


class TrainingStopped(KeyboardInterrupt):
    """Training was stopped by a signal, and everything is saved.

    Attributes:
        signum: The signal.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(f"stopped by {signal.Signals(signum).name}")
        self.signum = signum


class StopSignals:
    """Takes SIGINT, SIGTERM and SIGUSR1 as a wish: `with StopSignals() as stop:`.

    The first signal sets `requested`; training stops at the next point where its state is whole. A
    second one acts at once, as if this were not here. Outside the main thread, signals stay as they
    were.

    Attributes:
        requested: The signal that asked to stop; None so far.
    """

    def __init__(self) -> None:
        self.requested: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "StopSignals":
        """Installs the handlers."""
        if threading.current_thread() is threading.main_thread():
            self._before = {signum: signal.signal(signum, self._handle) for signum in SIGNALS}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Puts back the handlers there were before."""
        self._restore()

    def _restore(self) -> None:
        for signum, handler in self._before.items():
            signal.signal(signum, handler)
        self._before = {}

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        if self.requested is None:
            self.requested = signum
        else:
            self._restore()
            # Shells start what runs in the background with SIGINT ignored; here it was heard once.
            if signal.getsignal(signum) == signal.SIG_IGN:
                raise KeyboardInterrupt
            signal.raise_signal(signum)

    def check(self) -> None:
        """Raises `TrainingStopped` if the user asked to stop."""
        if self.requested is not None:
            raise TrainingStopped(self.requested)
