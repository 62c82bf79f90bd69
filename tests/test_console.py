"""Whatever takes long gives a sign of life."""

import io

import pytest
from rich.console import Console

from sndqn import console as module
from sndqn.console import Pulse


def test_a_pipe_gets_a_line_every_ten_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    console = Console(file=io.StringIO())
    with Pulse(console) as pulse:
        on_step = pulse.of_episodes(3, "evaluating: ")
        for step in range(1, 26):
            now[0] += 1
            on_step(1, 1000 * step)
    assert console.file.getvalue() == (  # type: ignore[attr-defined]
        "evaluating: episode 2/3: 10,000 steps so far\n"
        "evaluating: episode 2/3: 20,000 steps so far\n"
    )


def test_a_terminal_gets_a_line_that_changes_and_goes() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=60)
    with Pulse(console) as pulse:
        pulse.next_at = 0.0
        pulse.of_episodes(3)(0, 7)
        assert pulse.status is not None
        assert pulse.status.status == "episode 1/3: 7 steps so far"
