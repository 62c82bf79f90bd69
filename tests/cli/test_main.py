"""What holds for every command: help at once, and refusals in one or two lines."""

import subprocess
import sys
from pathlib import Path

import pytest

from sndqn import cli


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("train --env Breakot", "Breakout"),
        ("train --env Pendulum-v1", "Discrete"),
        ("train --env CartPole --sn-layers -9", "-3: q_net.0"),
        ("train --env CartPole --sn-layers conv9", "-3: q_net.0"),
        ("train --env CartPole --algo sarsa", "'qr-dqn' or 'iqn', found 'sarsa'"),
        ("train --env CartPole --leraning-rate 1", "did you mean --learning-rate?"),
        ("train --env CartPole --gamma 2", "gamma: expected less than or equal to 1"),
        ("train --env CartPole --batch-size -3", "batch_size: expected greater than 0"),
        ("train --env CartPole --fire-reset", "fire_reset"),
        ("train --env CartPole --protocol nature", "protocol"),
        ("train --env CartPole --torso nature_cnn", "expected observations of (channels"),
        ("train --env CartPole --config nothing.yaml", "no file and no shipped configuration"),
        ("train --env CartPole --total-timesteps 10", "nothing would be learnt"),
        ("train --env BreakoutDeterministic-v4", "16 frames per step. Type Breakout"),
        ("train", "Type --env NAME"),
        ("train --env", "expected"),
        ("train --env --seed 3", "expected a value"),
        ("trian", "did you mean train?"),
        ("evaluate nowhere", "expected the folder of a run"),
        ("replay nowhere", "expected the folder of a run"),
        ("inspect nowhere", "expected the folder of a run"),
        ("evaluate", "required: agent"),
        ("evaluate . --episodes many", "--episodes"),
    ],
)
def test_bad_input_gets_two_lines_status_2_and_writes_nothing(
    command: str,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        cli.main(command.split())
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert message in error
    assert 1 <= len(error.splitlines()) <= 2
    assert "Traceback" not in error
    assert not list(tmp_path.iterdir())


def loaded_by(command: list[str]) -> set[str]:
    """The top-level packages in a fresh interpreter after a command."""
    code = (
        "import contextlib, sys; from sndqn import cli\n"
        f"with contextlib.suppress(SystemExit): cli.main({command!r})\n"
        "print(*{name.split('.')[0] for name in sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split())


def test_help_imports_no_package_but_our_own() -> None:
    heavy = {"torch", "gymnasium", "pydantic", "numpy", "rich"}
    for command in ([], ["--help"], ["agents", "--help"], ["trian"]):
        assert not heavy & loaded_by(command)


@pytest.mark.parametrize("option", ["--help", "--hlep"])
@pytest.mark.parametrize("command", cli.COMMANDS)
def test_help_of_a_command_and_a_mistyped_option_import_neither_torch_nor_gymnasium(
    command: str, option: str
) -> None:
    assert not {"torch", "gymnasium", "ale_py"} & loaded_by([command, option])


def test_listing_the_agents_imports_neither_torch_nor_gymnasium() -> None:
    for command in (["agents"], ["agents", "CartPole/sn"]):
        assert not {"torch", "gymnasium", "pydantic", "numpy"} & loaded_by(command)


def test_help_of_each_command_lists_its_options(capsys: pytest.CaptureFixture[str]) -> None:
    for command in cli.COMMANDS:
        with pytest.raises(SystemExit) as stop:
            cli.main([command, "--help"])
        assert stop.value.code == 0
        assert "usage: sndqn " + command in capsys.readouterr().out
