"""Tab completes commands, options, names and runs, in the shells themselves."""

import os
import pty
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sndqn import cli
from sndqn.cli.completion import commands

SHELLS = ("bash", "zsh", "fish")


@pytest.fixture(scope="module")
def scripts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `sndqn completion` prints for each shell, by a process that may not import torch."""
    folder = tmp_path_factory.mktemp("scripts")
    for shell in SHELLS:
        code = f"from sndqn import cli; cli.main(['completion', '{shell}']); import sys; "
        code += "assert not {'torch', 'gymnasium', 'ale_py', 'matplotlib'} & set(sys.modules)"
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
        )
        (folder / f"_sndqn.{shell}").write_text(done.stdout)
    return folder


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """A folder with a run in it."""
    (tmp_path / "runs" / "CartPole-v1" / "dqn-seed0").mkdir(parents=True)
    (tmp_path / "runs" / "CartPole-v1" / "dqn-seed0" / "config.yaml").touch()
    (tmp_path / "runs" / "CartPole-v1" / "no-run").mkdir()
    return tmp_path


def in_bash(script: Path, typed: str, where: Path) -> list[str]:
    words = typed.split(" ")
    listed = " ".join(f"'{word}'" for word in words)
    code = f"source {script}; COMP_WORDS=({listed}); COMP_CWORD={len(words) - 1}; "
    code += "_sndqn; printf '%s\\n' \"${COMPREPLY[@]}\""
    done = subprocess.run(
        ["bash", "--norc", "-c", code], capture_output=True, text=True, cwd=where, timeout=60
    )
    assert done.stderr == ""
    return done.stdout.split()


def in_fish(script: Path, typed: str, where: Path) -> list[str]:
    code = f"source {script}; complete -C '{typed}'"
    done = subprocess.run(
        ["fish", "--no-config", "-c", code], capture_output=True, text=True, cwd=where, timeout=60
    )
    assert done.stderr == ""
    return [line.split("\t")[0] for line in done.stdout.splitlines()]


def in_zsh(script: Path, typed: str, where: Path) -> list[str]:
    """Types into a zsh on a terminal, and lists what Tab offers."""
    process, terminal = pty.fork()
    if process == 0:
        os.chdir(where)
        os.environ.update({"TERM": "dumb", "PS1": "> ", "COLUMNS": "200", "LINES": "900"})
        os.execvp("zsh", ["zsh", "-f", "-i"])
    commands = (
        "autoload -U compinit; compinit -u -D; LISTMAX=0; zstyle ':completion:*' list-prompt ''"
    )
    ready = (
        f"{commands}; source {script}; stty rows 900; bindkey '^I' list-choices; print re''ady\n"
    )
    os.write(terminal, ready.encode())
    read_until(terminal, "ready", 30)
    os.write(typed_on(terminal, typed), b"\t")
    seen = read_until(terminal, None, 4)
    os.write(terminal, b"\x15exit\n")
    os.close(terminal)
    os.waitpid(process, 0)
    return seen.split()


def typed_on(terminal: int, typed: str) -> int:
    os.write(terminal, typed.encode())
    return terminal


def read_until(terminal: int, word: str | None, seconds: float) -> str:
    """Reads a terminal until a word is there, or until it has been still for a while."""
    seen, until = "", time.monotonic() + seconds
    while time.monotonic() < until and (word is None or word not in seen):
        if select.select([terminal], [], [], 0.1)[0]:
            seen += os.read(terminal, 65536).decode(errors="replace")
            if word is None:
                until = time.monotonic() + seconds
    return seen


COMPLETE = {"bash": in_bash, "zsh": in_zsh, "fish": in_fish}
RUN = "runs/CartPole-v1/dqn-seed0"


@pytest.mark.parametrize("shell", SHELLS)
def test_tab_offers_what_fits(shell: str, scripts: Path, runs: Path) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    script = scripts / f"_sndqn.{shell}"

    def offered(typed: str) -> list[str]:
        return COMPLETE[shell](script, typed, runs)

    assert {"train", "tune"} <= set(offered("sndqn t"))
    assert "--learning-rate-decay" in offered("sndqn train --learning-r")
    assert "Breakout" in offered("sndqn train --env Br")
    assert {"MinAtar/Breakout", "MinAtar/Asterix"} <= set(offered("sndqn train --env MinAtar/"))
    assert "rainbow" in offered("sndqn train --env Pong --config rai")
    assert {"qr-dqn", "c51"} <= set(offered("sndqn train --algo "))
    assert RUN in offered("sndqn replay runs/CartPole-v1/d")
    assert "CartPole/sn" in offered("sndqn inspect CartPole/s")
    assert "CartPole/plain" in offered("sndqn agents CartPole/p")
    assert "fish" in offered("sndqn completion f")


def test_every_option_of_every_command_is_known() -> None:
    known = {command.name: command for command in commands()}
    assert list(known) == list(cli.COMMANDS)
    names = {name for option in known["train"].options for name in option.names}
    assert {"--env", "--sn-layers", "--no-double", "--more", "--json", "--help"} <= names
    assert all(command.help for command in known.values())
