"""`sndqn inspect`: every layer, and its norm."""

import pytest

from sndqn import cli
from sndqn.runs.folder import RunFolder


def test_inspect_lists_every_layer_with_its_norm(
    run: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    for what in (run.path, run.agent):
        assert cli.main(["inspect", str(what)]) == 0
        out = capsys.readouterr().out
        assert "q_net.0" in out
        assert "normalize to 1" in out
