"""The hub's names, and what is fetched of repositories that anyone may have made."""

import json
import os
import pickle
import sys
from pathlib import Path
from typing import Any

import pytest
from agent_files import agent_bytes
from hub_server import TOKEN, HubServer, Repo, sha256

from sndqn.agents import find_agent
from sndqn.agents.hub import FETCHED, fetch
from sndqn.agents.hub_names import HubName, hub_name
from sndqn.errors import (
    ConfigError,
    HubError,
    HubUnreachableError,
    MissingExtraError,
    SndqnError,
)

NAME = HubName("someone/cart")
CONTENT = agent_bytes()


@pytest.fixture
def repo(hub: HubServer) -> Repo:
    made = hub.make(NAME.repo)
    made.add(agent__safetensors=CONTENT, config__yaml=b"env: CartPole\n")
    return made


def refusal(name: HubName = NAME) -> str:
    """Gives what is said of an agent that is refused; it is one line."""
    with pytest.raises(SndqnError) as refused:
        find_agent(str(name)).load()
    assert len(str(refused.value).splitlines()) == 1
    return str(refused.value)


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("hf://someone/cart", HubName("someone/cart")),
        ("someone/cart", HubName("someone/cart")),
        ("hf://a/b", HubName("a/b")),
        ("hf://so-me_1/Cart.Pole-v1@v1.0", HubName("so-me_1/Cart.Pole-v1", "v1.0")),
        ("hf://someone/cart@refs/pr/1", HubName("someone/cart", "refs/pr/1")),
        ("hf://someone/cart@main", HubName("someone/cart")),
        ("hf://someone/cart.json", HubName("someone/cart.json")),
    ],
)
def test_a_name_says_repository_and_revision(given: str, name: HubName) -> None:
    assert hub_name(given) == name
    assert hub_name(str(name)) == name


@pytest.mark.parametrize(
    "given",
    [
        *("", "cart", "/", "a/", "/b", "a/b/c", "../b", "a/..", "a/b..c", "a--b/c", "a/-b", "a/b."),
        *("a/b@", "a/b@../../x", "a/b@/etc", "a/b@x//y", "a/b c", "a/b\n", "a/b\x1b[2J", "é/b"),
        *("a/b@x/../y", "a/b@-x", "a/" + "b" * 97, "https://huggingface.co/a/b", "a/b@x@y"),
        *("hf://hf://a/b", "a\\b", "a/b@" + "x" * 200),
    ],
)
def test_other_names_are_refused_before_anything_is_asked(given: str, hub: HubServer) -> None:
    with pytest.raises(HubError, match="expected a name of the hub"):
        find_agent(f"hf://{given}")
    assert not hub.log


def test_what_is_fetched_is_of_one_commit_and_of_known_names(hub: HubServer, repo: Repo) -> None:
    repo.add(
        pytorch_model__bin=b"no", model__pkl=pickle.dumps(print), x__py=b"", README__md=b"---\n---"
    )
    folder = fetch(NAME)
    assert folder.name == repo.head()
    assert sorted(path.name for path in folder.iterdir()) == ["agent.safetensors", "config.yaml"]
    assert hub.downloads() == {"agent.safetensors", "config.yaml"}
    agent = find_agent(str(NAME)).load()
    assert agent.sha256 == sha256(CONTENT)


def test_what_is_in_the_cache_is_not_fetched_again(hub: HubServer, repo: Repo) -> None:
    fetch(NAME)
    hub.log.clear()
    fetch(NAME)
    assert not [line for line in hub.log if line.startswith("GET") and "resolve" in line]
    assert not [line for line in hub.log if "cdn" in line]
    repo.add(config__yaml=b"env: Acrobot\n")
    assert (fetch(NAME) / "config.yaml").read_bytes() == b"env: Acrobot\n"


def test_a_tag_or_a_commit_stays_what_it_was(hub: HubServer, repo: Repo) -> None:
    first = repo.tags["v1"] = repo.head()
    other = agent_bytes(env="Acrobot")
    repo.add(agent__safetensors=other)
    assert find_agent(str(NAME)).load().sha256 == sha256(other)
    for revision in ("v1", first):
        name = HubName(NAME.repo, revision)
        assert find_agent(str(name)).load().sha256 == sha256(CONTENT)
    assert "none called v2" in refusal(HubName(NAME.repo, "v2"))


def test_a_download_that_breaks_off_goes_on_where_it_was(
    hub: HubServer, repo: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1000)  # what is less begins anew: 10 MB
    hub.cut_after = 2000
    assert find_agent(str(NAME)).load().sha256 == sha256(CONTENT)
    (resumed,) = (line for line in hub.log if "bytes=" in line)
    assert resumed == f"GET /cdn/{sha256(CONTENT)} bytes=2000-"


def test_a_download_that_ends_early_leaves_nothing_half_done(
    hub: HubServer, repo: Repo, tmp_path: Path
) -> None:
    hub.cut_after, hub.failing_when_cut = 2000, 404
    assert "status 404" in refusal()
    assert not [path for path in tmp_path.rglob("*") if "incomplete" in path.name]
    hub.failing, hub.cut_after = None, 0
    hub.log.clear()
    assert find_agent(str(NAME)).load().sha256 == sha256(CONTENT)
    assert not [line for line in hub.log if "config.yaml" in line and line.startswith("GET")]


@pytest.mark.parametrize("how", ["HF_HUB_OFFLINE", "no network", "status 503"])
def test_without_the_hub_the_cache_is_taken(
    how: str,
    hub: HubServer,
    repo: Repo,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    from huggingface_hub import constants

    first = repo.head()
    fetch(NAME)
    if how == "HF_HUB_OFFLINE":
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    elif how == "no network":
        monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:1")
    else:
        hub.failing = 503
    hub.log.clear()
    assert fetch(NAME).name == first
    assert fetch(HubName(NAME.repo, first)).name == first
    assert len(hub.log) == (2 if how == "status 503" else 0)
    assert ("what was downloaded before is taken" in caplog.text) == (how != "HF_HUB_OFFLINE")
    for other in (HubName("someone/other"), HubName(NAME.repo, "v1")):
        with pytest.raises(HubUnreachableError, match="no earlier download"):
            fetch(other)


@pytest.mark.parametrize("file", ["agent.safetensors", "config.yaml"])
def test_a_file_that_was_changed_in_the_cache_is_refused(
    file: str, hub: HubServer, repo: Repo
) -> None:
    blob = (fetch(NAME) / file).resolve()
    os.chmod(blob, 0o600)
    blob.write_bytes(blob.read_bytes()[:-1] + b"!")
    words = refusal()
    assert f"{file} is not what was downloaded: delete " in words
    assert "models--someone--cart and type" in words


def test_what_no_one_may_read_is_refused_alike(
    hub: HubServer, repo: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    repo.private = True
    assert "hf auth login" in refusal()
    assert "found none: check the name" in refusal(HubName("someone/none"))
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert find_agent(str(NAME)).load().sha256 == sha256(CONTENT)
    repo.gated = True
    assert "its owner decides who may read it" in refusal()


class Trap:
    """Makes a file when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> Any:
        return Path.touch, (self.file,)


def test_a_pickle_is_neither_fetched_nor_opened(hub: HubServer, repo: Repo, tmp_path: Path) -> None:
    sprung = tmp_path / "sprung"
    trap = pickle.dumps(Trap(sprung))
    names = ("agent.pkl", "agent.zip", "policy.pth", "vecnormalize.pkl", "pytorch_model.bin")
    repo.change({name: trap for name in names})
    find_agent(str(NAME)).load()
    assert hub.downloads() <= set(FETCHED)
    repo.add(agent__safetensors=trap)
    assert "expected a safetensors header" in refusal()
    repo.add(agent__safetensors=CONTENT, config__yaml=trap, evaluation__json=trap)
    find_agent(str(NAME)).load()
    assert hub.downloads() <= set(FETCHED)
    assert not sprung.exists()


@pytest.mark.parametrize("file", list(FETCHED))
def test_a_huge_file_is_refused_before_it_is_fetched(
    file: str, hub: HubServer, repo: Repo, tmp_path: Path
) -> None:
    repo.change({file: b"x"})
    hub.claims[file] = 10**13
    assert f"{file}: expected at most {FETCHED[file]:,} bytes, found {10**13}" in refusal()
    assert not hub.downloads()
    assert not (tmp_path / "hub-cache").exists()


def test_a_file_that_is_larger_than_was_said_is_stopped_on_its_way(
    hub: HubServer, repo: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1000)
    repo.add(config__yaml=b"#" * 10**6)
    hub.claims["config.yaml"] = 100
    assert "config.yaml: expected at most 65,536 bytes, found more" in refusal()
    assert not [
        path for path in tmp_path.rglob("*") if path.is_file() and path.stat().st_size > 500
    ]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ({"sha": "../../../../tmp/x"}, "expected a commit of 40 digits"),
        ({"sha": None}, "expected a commit of 40 digits"),
        ({"siblings": []}, "found 'an empty one'"),
        ({"siblings": [{"rfilename": "../../agent.safetensors"}]}, "expected a repository with"),
        ({"siblings": [{"rfilename": "agent.safetensors"}]}, "bytes, found None"),
        ({"siblings": [{"rfilename": "agent.safetensors", "size": "1"}]}, "hub's client says"),
        ({"siblings": 7}, "the hub's client says"),
        ([1], "the hub's client says"),
        (b"<html>", "the hub's client says"),
        (b"[" * 100_000, "the hub's client says"),
        (b"", "the hub's client says"),
    ],
)
def test_nonsense_in_place_of_an_answer_is_refused_and_writes_nothing(
    answer: Any, words: str, hub: HubServer, repo: Repo, tmp_path: Path
) -> None:
    sound = {"id": NAME.repo, "sha": repo.head(), "siblings": [], "private": False}
    answer = {**sound, **answer} if isinstance(answer, dict) else answer
    hub.answers[NAME.repo] = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
    assert words in refusal()
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_paths_that_lead_elsewhere_are_not_followed(
    hub: HubServer, repo: Repo, tmp_path: Path
) -> None:
    repo.change({f"{'../' * 6}agent.safetensors": b"evil", "/etc/config.yaml": b"evil"})
    fetch(NAME)
    assert hub.downloads() == {"agent.safetensors", "config.yaml"}
    assert not [p for p in tmp_path.rglob("*") if p.is_file() and p.read_bytes() == b"evil"]


def test_what_is_told_of_a_hub_agent_is_refused(hub: HubServer, repo: Repo) -> None:
    from sndqn.agents.told import Told

    with pytest.raises(ConfigError, match="says it itself"):
        find_agent(str(NAME), Told(activation="relu"))
    assert not hub.log


def test_without_huggingface_hub_one_line_says_what_to_type(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingExtraError, match=r'pip install "sndqn\[hub\]"'):
        find_agent(str(NAME))
