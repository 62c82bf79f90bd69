"""Every command in README and docs/ is one: its program, options and values are there.

`sndqn` commands go through the command line itself. Those on an agent, a run or an environment that
take seconds are carried out, on a run, a zip and a study that are made for it. What takes minutes
or hours is stopped where the work would begin: a training after its plan, which knows each layer, a
study and a tuning after they were written. Other commands are read by their parser.
"""

import argparse
import re
import shlex
import shutil
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from doc_blocks import PAGES, ROOT, blocks, inline, name_of

from sndqn.cli import COMMANDS, main, sweep, tune
from sndqn.cli.options import Parser
from sndqn.study.report import FORMATS

# What stands for something of the reader's own, by what stands there in the tests.
STAND_INS = {"RUN": "run", "AGENT": "run", "ENV": "CartPole", "GAME": "Breakout", "LAYERS": "-2"}
STAND_INS |= {"N": "1", "P": "0.1", "X": "1", "CONFIG": "dqn", "PRESET": "dqn"}
# Carried out, with what makes it a matter of seconds.
CARRIED_OUT = {
    "agents": [],
    "evaluate": ["--episodes", "1", "--max-steps", "20"],
    "export": [],
    "import-sb3": [],
    "inspect": [],
    "replay": [],
    "report": ["--format", "html"],
    "runs": [],
    "watch": ["--games", "1", "--speed", "64"],
}
# Carried out until the work begins.
PLANNED = {"train", "sweep", "tune"}
# Programs that are not ours, in commands that need nothing of ours.
OTHERS = {"cd", "export", "git", "hf", "jupyter", "source"}


class Read(Exception):
    """The command was read, and no more is wanted."""


def stand_in(word: str, command: str) -> str:
    """Gives what stands for a folder or name of the reader's: a run stands for all of them."""
    folder = word.startswith(("runs/", "logs/", "studies/"))
    if folder and command not in PLANNED and (command == "report" or not Path(word).exists()):
        return "run"
    return STAND_INS.get(word, word)


def commands(text: str) -> list[list[str]]:
    """Gives the commands in a block, as words."""
    lines = text.replace("\\\n", " ").splitlines()
    words = [shlex.split(line, comments=True) for line in lines]
    split: list[list[str]] = []
    for line in (each for each in words if each):
        while "&&" in line:
            at = line.index("&&")
            split.append(line[:at])
            line = line[at + 1 :]
        split.append(line)
    return [line[1:] if re.fullmatch(r"[A-Z_]+=.*", line[0]) else line for line in split]


def read_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has every command stop when its words are read; what is required may be missing."""
    parse = argparse.ArgumentParser.parse_args

    def parse_args(self: Parser, argv: Any = None, namespace: Any = None) -> None:
        for action in self._actions:
            action.required = False
        parse(self, argv, namespace)
        raise Read

    monkeypatch.setattr(Parser, "parse_args", parse_args)


def only_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has trainings, studies and tunings stop where their work would begin."""
    from sndqn.training import run
    from sndqn.training.plan import plan

    def planned(config: Any, *others: Any) -> None:
        plan(config)
        raise Read

    monkeypatch.setattr(run, "train", planned)
    monkeypatch.setattr(run, "resume", lambda *of: pytest.fail("resumed nothing"))
    monkeypatch.setattr(sweep, "_make_all", lambda *of: None)
    monkeypatch.setattr(sweep, "_show_plan", lambda *of: None)
    monkeypatch.setattr(tune, "_tune", lambda *of: None)


def carry_out(argv: list[str]) -> None:
    """Runs a command; it must end well, or where the test stops it."""
    try:
        status = main(argv)
    except Read:
        return
    except SystemExit as end:
        status = int(end.code or 0)
    assert status == 0, shlex.join(["sndqn", *argv])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the commands name: a run, an agent file, and a zip of SB3."""
    from stable_baselines3 import DQN

    import sndqn

    folder = tmp_path_factory.mktemp("made")
    few = {"total_timesteps": 300, "learning_starts": 100, "tensorboard": False, "verbose": False}
    few |= {"eval_episodes": 1, "eval_max_steps": 20}
    run = sndqn.train("CartPole", runs_dir=str(folder / "runs"), **few)  # type: ignore[arg-type]
    shutil.copytree(run.path, folder / "run")
    run.agent.export(folder / "mailed.safetensors")
    DQN("MlpPolicy", "CartPole-v1", learning_starts=10).save(folder / "dqn.zip")
    return folder


@pytest.fixture
def at_home(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[list[str]], None]:
    """Carries out a command in a folder that has what it names."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    only_plan(monkeypatch)

    def do(argv: list[str]) -> None:
        name, *rest = (stand_in(word, argv[0]) for word in argv)
        elsewhere = any("hf://" in word for word in rest) or name not in {*CARRIED_OUT, *PLANNED}
        # `agents add` writes among the agents that ship, a finished run has to be there for more.
        if elsewhere or rest[:1] == ["add"] or {"--help", "--resume", "--more"} & set(rest):
            with monkeypatch.context() as patch:
                read_only(patch)
                carry_out([name, *rest])
            return
        if name == "report" and "--format" in rest:
            assert set(rest[rest.index("--format") + 1].split(",")) <= set(FORMATS)
        carry_out([name, *rest, *CARRIED_OUT.get(name, [])])

    return do


def check_other(words: list[str]) -> None:
    """Checks a command that is not `sndqn`: scripts and extras are there."""
    program = words[0]
    if program in ("pip", "python") and "pip" in words:
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
        extras = re.findall(r"\[([\w,-]+)\]", " ".join(words))
        wanted = {each for found in extras for each in found.split(",")}
        assert wanted <= set(project["optional-dependencies"])
    elif program == "pip":
        check_other(["python", "-m", *words])
    elif program == "python":
        assert (ROOT / words[1]).is_file(), words
    elif "/" in program:
        assert (ROOT / program).is_file(), words
    else:
        assert program in OTHERS, f"{shlex.join(words)}: say here how it is to be checked"


WITH_COMMANDS = [
    pytest.param(block.text, id=f"{name_of(page)}:{block.line}")
    for page in PAGES
    for block in blocks(page)
    if block.language == "bash"
]


@pytest.mark.parametrize("block", WITH_COMMANDS)
def test_the_commands_of_a_block_do_what_they_say(
    block: str, at_home: Callable[[list[str]], None]
) -> None:
    for words in commands(block):
        if words[0] == "./scripts/train.sh":
            words = ["sndqn", "train", *words[1:]]
        if words[0] == "sndqn":
            at_home(words[1:])
        else:
            check_other(words)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_a_command_within_the_text_is_one(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read_only(monkeypatch)
    for code in inline(page):
        words = [word for word in code.split() if word != "..."]
        if words[0] != "sndqn" or len(words) < 2 or words[1] in ("COMMAND", "--help"):
            continue
        assert words[1] in COMMANDS, code
        if words[-1].startswith("--"):
            words.pop()  # an option is named, without its value: test_docs.py knows them all
        carry_out([STAND_INS.get(word, word) for word in shlex.split(" ".join(words))[1:]])
