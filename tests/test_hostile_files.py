"""Files and words of strangers: refused in two lines, and nothing runs, is written or hangs.

Each input is random bytes, a good file damaged, or a good file whose parts were replaced by someone
who knows the format and makes its digest anew.
"""

import dataclasses
import importlib
import json
import os
import pickle
import random
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from agent_files import agent_bytes, rewritten, words_of
from hostile import (
    COUNTS,
    ENVIRONMENTS,
    HOSTILE,
    damaged,
    make_known_environments,
    read_all,
    with_changed_part,
)
from watched import warming_up, watched

from sndqn import cli
from sndqn.agents import agent_from_bytes
from sndqn.envs import make_env, resolve_env
from sndqn.errors import SndqnError
from sndqn.evaluation import (
    Trace,
    read_episodes,
    read_trace,
    record_trace,
    replay_trace,
    write_episodes,
    write_trace,
)
from sndqn.training.config import make_config
from sndqn.training.config_files import read_config


@pytest.fixture(scope="module", autouse=True)
def environments_known() -> None:
    make_known_environments()
    importlib.import_module("sndqn.training.told")  # of commands that get --env
    with warming_up():
        # torch imports more at its first sizes of a network for Discrete observations.
        agent_from_bytes(agent_bytes(env="Taxi"), "file")


GOOD_AGENT = agent_bytes()
AGENT_WORDS = words_of(GOOD_AGENT)


def hostile_agent(draw: random.Random) -> bytes:
    if draw.random() < 0.5:
        return damaged(GOOD_AGENT, draw)
    words = with_changed_part(AGENT_WORDS, draw)
    if isinstance(words, dict):
        words["content_sha256"] = "0" * 64
    return rewritten(GOOD_AGENT, words=json.dumps(words, separators=(",", ":")))


@pytest.mark.parametrize("count", COUNTS)
def test_the_agent_reader_stands_hostile_files(count: int) -> None:
    refusals = read_all(count, hostile_agent, lambda content: agent_from_bytes(content, "file"))
    # The others are agents of another seed and the like.
    assert refusals > 0.9 * count


# Some of the settings: the parser is slow, and reads each line by the same rules.
CONFIG = dict(list(make_config({"env": "CartPole"}).model_dump(mode="json").items())[::5])
YAML = ["&a [*a]", "*a", "<<: {a: 1}", "a: b: c", "- - - -", "!!python/name:os.system", "? [a]"]
YAML += ["!!binary aGk=", "!!set {a}", "2020-99-99", "12:30:45", "012", "0x" + "f" * 5000]
YAML += ["[" * 2000, "{" * 2000, "9" * 5000, "'", "\t", "%YAML 9.9", "env: CartPole\nenv: Acrobot"]


def hostile_config(draw: random.Random) -> bytes:
    kind = draw.randrange(4)
    if kind == 0:
        return damaged(yaml.safe_dump(CONFIG).encode(), draw)
    if kind == 1:
        lines = [f"{draw.choice(list(CONFIG))}: {draw.choice(YAML)}", draw.choice(YAML)]
        return "\n".join(draw.sample(lines, k=draw.randint(1, 2))).encode()
    data = with_changed_part(CONFIG, draw)
    written = yaml.safe_dump(data) if kind == 2 else json.dumps(data)
    return written.encode("utf-8", "surrogatepass")


@pytest.mark.parametrize("count", COUNTS)
def test_the_config_reader_stands_hostile_files(count: int, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"

    def make(draw: random.Random) -> None:
        path.write_bytes(hostile_config(draw))

    read_all(count, make, lambda _: make_config(read_config(str(path))))


@pytest.fixture(scope="module")
def trace() -> Trace:
    settings = resolve_env("CartPole")
    env = make_env(settings)
    return record_trace(env, settings, lambda _: np.zeros(2), seed=3, epsilon=0.5)


@pytest.mark.parametrize("count", COUNTS)
def test_the_trace_reader_stands_hostile_files(count: int, trace: Trace, tmp_path: Path) -> None:
    """A trace that reads is replayed too, a few steps of it."""
    path = tmp_path / "episode.trace.json"
    write_trace(path, trace)
    good = path.read_bytes()

    def make(draw: random.Random) -> None:
        kind = draw.randrange(3)
        if kind == 0:
            path.write_bytes(damaged(good, draw))
        elif kind == 1:
            changed = with_changed_part(json.loads(good), draw)
            path.write_text(json.dumps(changed))
        else:
            settings = with_changed_part(trace.settings, draw)
            try:
                write_trace(path, dataclasses.replace(trace, settings=settings))
            except (SndqnError, UnicodeEncodeError, ValueError):
                path.write_bytes(b"")

    def read(_: object) -> None:
        for step in replay_trace(read_trace(path)):
            if step.index == 3:
                return

    assert read_all(count, make, read) > 0.8 * count


@pytest.mark.parametrize("count", COUNTS)
def test_the_reader_of_episodes_stands_hostile_files(
    count: int, trace: Trace, tmp_path: Path
) -> None:
    path = tmp_path / "episodes.jsonl"
    write_episodes(path, [trace, trace])
    good = path.read_bytes()

    def make(draw: random.Random) -> None:
        if draw.random() < 0.5:
            path.write_bytes(damaged(good, draw))
            return
        lines = [json.loads(line) for line in good.splitlines()]
        at = draw.randrange(len(lines))
        lines[at] = with_changed_part(lines[at], draw)
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))

    assert read_all(count, make, lambda _: list(read_episodes(path))) > 0.8 * count


WORDS = ["train", "evaluate", "replay", "inspect", "agents", "export", "import-sb3", "add", "trian"]
WORDS += ["--help", "-h", "--", "-", "--env", "--sha256", "--episode", "--values", "--output", "-2"]
WORDS += ["--episodes", "--epsilon", "--seed", "--name", "--format", "--config", "--sn-layers"]
WORDS += ["--env-kwargs", "--env-changes", "--net-arch", "--init-from", "--gamma=nan", "--protocol"]
WORDS += ["--env=CartPole", "--algo", "c51", "dqn-nature", "none", "all", "1e400", "{a: [", "*a"]
WORDS += [
    "[" * 3000,
    "--env=" + "x" * 300,
    "-" * 50,
    "=",
    "--=",
    "CartPole/sn",
    "/",
    ".",
    "/dev/null",
]


@pytest.mark.parametrize("count", COUNTS)
def test_the_command_line_stands_hostile_words(
    count: int,
    trace: Trace,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    draw = random.Random(1)
    monkeypatch.chdir(tmp_path)
    write_trace(tmp_path / "good.trace.json", trace)
    trace_bytes = (tmp_path / "good.trace.json").read_bytes()
    (tmp_path / "good.trace.json").unlink()
    write_episodes(tmp_path / "good.jsonl", [trace, trace])
    episodes_bytes = (tmp_path / "good.jsonl").read_bytes()
    (tmp_path / "good.jsonl").unlink()
    files = []
    for number in range(40):
        folder = tmp_path / f"run-\x1b[31m{number}"
        (folder / "traces").mkdir(parents=True)
        for name, content in {
            "agent.safetensors": hostile_agent(draw) + b" ",
            "config.yaml": hostile_config(draw),
            "evaluation.json": damaged(b'{"schema": "sndqn-evaluation-1", "episodes": []}', draw),
            "traces/episode-000.trace.json": damaged(trace_bytes, draw) + b"}",
            "episodes.jsonl": damaged(episodes_bytes, draw) + b"}",
        }.items():
            (folder / name).write_bytes(content)
            files.append(str(folder / name))
        files.append(str(folder))
    there = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    def make(draw: random.Random) -> list[str]:
        command = draw.choice(WORDS[:7])
        pools: list[list[str]] = [WORDS, files, [str(value)[:6000] for value in SAYABLE]]
        # Half of them get past the grammar.
        count = draw.randrange(6) if draw.random() < 0.5 else int(command != "train")
        words = [draw.choice(draw.choice(pools[count == 1 :])) for _ in range(count)]
        if command != "train":
            return [command, *words]
        words.append(f"--env={draw.choice(['CartPole', 'MinAtar/Asterix', *ENVIRONMENTS])}")
        for name in draw.sample(list(CONFIG_NAMES), k=draw.randrange(4)):
            words.append(f"--{name.replace('_', '-')}={draw.choice(draw.choice(pools))}")
        # Whatever else is right: so short a training learns nothing, and is refused.
        return [command, *words, "--total-timesteps=1", "--learning-starts=1"]

    def read(words: list[str]) -> None:
        try:
            status: object = cli.main(words)
        except SystemExit as stop:
            status = stop.code
        said = capsys.readouterr()
        assert status in (0, 2), words
        if status == 2:
            assert 1 <= len(said.err.splitlines()) <= 2, words
            assert "Traceback" not in said.err
        assert all(c.isprintable() or c == "\n" for c in said.out + said.err), words

    read_all(count, make, read)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == there


CONFIG_NAMES = make_config({"env": "CartPole"}).model_dump()
SAYABLE = [value for value in HOSTILE if value != 10**400]


def test_the_watch_sees_what_it_is_there_for(tmp_path: Path) -> None:
    """What the other tests say did not happen is seen when it does."""
    deeds: list[Callable[[], object]] = [
        lambda: eval("1 + 1"),  # noqa: S307
        lambda: (tmp_path / "new").write_text("x"),
        lambda: (tmp_path / "folder").mkdir(),
        lambda: subprocess.run(["true"], check=True),
        lambda: os.system("true"),
        lambda: pickle.loads(pickle.dumps(Path)),  # noqa: S301
        lambda: socket.socket().close(),
        lambda: importlib.import_module("this_module_is_new"),
    ]
    for deed in deeds:
        with pytest.raises((AssertionError, ModuleNotFoundError)), watched():
            deed()
