"""Zips and rl-zoo folders of strangers: refused in two lines, and nothing in them runs."""

import io
import json
import os
import pickle
import random
import subprocess
import sys
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import yaml
from hostile import (
    COUNTS,
    anything,
    damaged,
    make_known_environments,
    read_all,
    with_changed_part,
)
from stable_baselines3 import DQN
from watched import watched

import sndqn
from sndqn import cli
from sndqn.agents.sb3_weights import convert
from sndqn.errors import SndqnError
from sndqn.files.plain_yaml import plain_yaml

ARGS = {"algo": "dqn", "env": "CartPole-v1", "env_kwargs": {"sutton_barto_reward": True}}
ARGS |= {"gym_packages": [], "seed": 3, "num_threads": -1}
CONFIG = {"policy": "MlpPolicy", "policy_kwargs": "dict(net_arch=[8])", "n_timesteps": 100.0}
CONFIG |= {"env_wrapper": None, "frame_stack": None, "normalize": False}
WORDS = ["!!python/object/apply:os.mkdir ['ran']", "!!python/name:os.system ''", "&a [*a]", "{"]
WORDS += ["!!python/object/new:os.mkdir ['ran']", "a: b: c", "[" * 3000, "9" * 5000, "2020-99-99"]
WORDS += ["!!python/tuple [1]", "!!python/object/apply:collections.OrderedDict [[[1]]]", "- - a"]
WRAPPER = "stable_baselines3.common.atari_wrappers.AtariWrapper"


class Payload:
    """A pickle that makes a folder when it is read."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.marker),)


@pytest.fixture(scope="module", autouse=True)
def environments_known() -> None:
    make_known_environments()


@pytest.fixture(scope="module")
def members() -> dict[str, bytes]:
    """The entries of a good zip."""
    kwargs: dict[str, Any] = {"net_arch": [8], "sn_layers": "-2"}
    file = io.BytesIO()
    DQN(sndqn.SNMlpPolicy, "CartPole-v1", buffer_size=1, device="cpu", policy_kwargs=kwargs).save(
        file
    )
    with zipfile.ZipFile(file) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def zipped(members: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


ZIP, ARGS_FILE, CONFIG_FILE = "model.zip", "model/args.yml", "model/config.yml"
YAML = {
    ARGS_FILE: yaml.dump(OrderedDict(ARGS)).encode(),
    CONFIG_FILE: yaml.dump(OrderedDict(CONFIG)).encode(),
}


def hostile_zip(members: dict[str, bytes], draw: random.Random) -> bytes:
    """A zip that is damaged, or whose data says something else; its weights stay good."""
    if draw.random() < 0.5:
        return damaged(zipped(members), draw)
    words = json.dumps(with_changed_part(json.loads(members["data"]), draw))
    return zipped({**members, "data": words.encode()})


def hostile_yaml(name: str, draw: random.Random) -> bytes:
    """One of rl-zoo's two files, damaged, with code in it, or with something else at a place."""
    kind = draw.randrange(4)
    if kind == 0:
        return damaged(YAML[name], draw)
    if kind == 1:
        return f"env: {draw.choice(WORDS)}\n{draw.choice(WORDS)}".encode()
    values = plain_yaml(YAML[name])
    if kind == 2 and name == CONFIG_FILE:
        values["env_wrapper"] = [{WRAPPER: {draw.choice(["noop_max", "a"]): anything(draw)}}]
    values = with_changed_part(values, draw)
    return yaml.dump(OrderedDict(values) if isinstance(values, dict) else values).encode()


def hostile_folder(members: dict[str, bytes], draw: random.Random) -> dict[str, bytes]:
    contents = {ZIP: zipped(members), **YAML}
    name = draw.choice(list(contents))
    contents[name] = hostile_zip(members, draw) if name == ZIP else hostile_yaml(name, draw)
    if name == CONFIG_FILE and draw.random() < 0.5:
        contents[ARGS_FILE] = YAML[ARGS_FILE].replace(b"CartPole-v1", b"BreakoutNoFrameskip-v4")
    return contents


@pytest.mark.parametrize("count", COUNTS)
def test_zips_and_folders_of_strangers_run_nothing_and_leave_no_traceback(
    count: int,
    members: dict[str, bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The weights stay good: they are read in another process, which the next test is about."""
    monkeypatch.chdir(tmp_path)
    marker = tmp_path / "ran"
    bomb = pickle.dumps(Payload(marker))
    hostile = {n: c if n in ("policy.pth", "data") else bomb for n, c in members.items()}
    (tmp_path / "model").mkdir()

    def write(contents: dict[str, bytes]) -> None:
        for name, content in contents.items():
            (tmp_path / name).write_bytes(content)

    def read(_: object) -> None:
        try:
            status: object = cli.main(["inspect", str(tmp_path)])
        except SystemExit as stop:
            status = stop.code
        said = capsys.readouterr()
        assert status in (0, 2)
        assert all(c.isprintable() or c == "\n" for c in said.out + said.err)
        if status == 2:
            assert 1 <= len(said.err.splitlines()) <= 2
            raise SndqnError(said.err)

    write({ZIP: zipped(hostile), **YAML})
    read(None)  # the weights are good, and read once
    refusals = read_all(count, lambda draw: write(hostile_folder(hostile, draw)), read)
    assert 0.4 * count < refusals < 0.95 * count
    assert not marker.exists()


def hostile_weights(good: bytes, bomb: bytes, draw: random.Random) -> bytes:
    """A policy.pth that is damaged, or whose pickle is, with all checksums right."""
    if draw.random() < 0.2:
        return damaged(good, draw)
    with zipfile.ZipFile(io.BytesIO(good)) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    name = next(name for name in parts if name.endswith("data.pkl"))
    words = parts[name]
    kind, at = draw.randrange(4), draw.randrange(len(words))
    if kind == 0:
        parts[name] = bomb
    elif kind == 1:
        parts[name] = words[:at] + bomb[2:] + words[at:]
    elif kind == 2:
        parts[name] = words.replace(
            b"torch._utils", draw.choice([b"os", b"torch.hub", b"builtins"])
        )
    else:
        parts[name] = damaged(words, draw)
    return zipped(parts)


def read_hostile_weights(count: int, marker: Path) -> int:
    """Reads so many under watch, with the memory that the reader of weights has."""
    import resource

    from sndqn.agents import sb3_weights

    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + sb3_weights.MEMORY_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    file = io.BytesIO()
    model = DQN("MlpPolicy", "CartPole-v1", buffer_size=1, policy_kwargs={"net_arch": [8]})
    model.save(file)
    with zipfile.ZipFile(file) as archive:
        good = archive.read("policy.pth")
    bomb = pickle.dumps(Payload(marker))

    def read(content: bytes) -> None:
        try:
            convert(content)
        except Exception as error:  # as the program does that reads weights
            raise SndqnError(str(error)) from None

    return read_all(count, lambda draw: hostile_weights(good, bomb, draw), read)


@pytest.mark.skipif(sys.platform != "linux", reason="limits memory by /proc")
@pytest.mark.parametrize("count", COUNTS)
def test_the_reader_of_weights_runs_nothing(count: int, tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    tests = Path(__file__).parent
    code = (
        f"import sys; sys.path[:0] = {[str(tests), str(tests.parent)]!r}\n"
        "import warnings; warnings.simplefilter('ignore')\n"
        "from pathlib import Path; import test_hostile_bridge as it\n"
        f"print(it.read_hostile_weights({count}, Path({str(marker)!r})))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout) > 0.5 * count
    assert not marker.exists()


def test_the_bomb_works_where_it_is_let(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    bomb = pickle.dumps(Payload(marker))
    with pytest.raises(AssertionError), watched():
        pickle.loads(bomb)  # noqa: S301
    assert marker.exists()
