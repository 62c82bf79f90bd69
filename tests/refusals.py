"""Commands that are refused."""

import pytest

from sndqn import cli


def refusal(command: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Gives what a command says that is refused: one or two lines, and status 2."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        cli.main(command)
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert 1 <= len(error.splitlines()) <= 2
    assert "Traceback" not in error
    return error
