"""`sndqn push`, `sndqn pull` and hf:// names, against a hub on this machine."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import imageio_ffmpeg
import pytest
import yaml
from agent_files import agent_bytes
from hub_server import TOKEN, HubServer
from made_runs import make_run
from refusals import refusal

import sndqn
from sndqn import cli
from sndqn.agents import load_agent
from sndqn.files import sha256_of
from sndqn.runs.folder import RunFolder
from sndqn.study.design import make_design
from sndqn.study.folder import Study

ALL = {
    "README.md",
    "agent.safetensors",
    "config.yaml",
    "episodes.jsonl",
    "evaluation.json",
    "replay.mp4",
}

# huggingface_hub 2.4 uploads large files in a way that its own HTTP client is going to give up.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hub: HubServer) -> Path:
    """The folder that commands run in, of a person with a token of the hub."""
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def files_of(hub: HubServer, name: str = "someone/cart") -> dict[str, bytes]:
    files = dict(hub.repos[name].files())
    del files[".gitattributes"]
    return files


def test_a_pushed_run_is_pulled_and_played_elsewhere(
    run: RunFolder, hub: HubServer, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["push", str(run.path), "someone/cart"]) == 0
    out = capsys.readouterr().out
    assert f"{hub.url}/someone/cart: public, commit {hub.repos['someone/cart'].head()}" in out
    files = files_of(hub)
    assert set(files) == ALL
    assert all(f"{name}: {len(content):,} bytes" in out for name, content in files.items())
    assert files["agent.safetensors"] == run.agent.read_bytes()
    hub.log.clear()

    assert cli.main(["pull", "someone/cart"]) == 0
    out = capsys.readouterr().out
    sha256 = load_agent(run.agent).sha256
    score = json.loads(run.evaluation.read_text())
    for word in (
        sha256,
        f"mean return {score['mean']:.1f}",
        "Next: sndqn replay hf://someone/cart",
    ):
        assert word in out
    assert hub.downloads() == ALL - {"README.md", "replay.mp4"}
    assert not list(place.iterdir())

    assert cli.main(["replay", "hf://someone/cart", "--values", "--sha256", sha256]) == 0
    assert list((place / "someone-cart-evaluation" / "videos").iterdir())
    assert cli.main(["evaluate", "hf://someone/cart", "--episodes", "1"]) == 0
    assert (place / "someone-cart-evaluation" / "evaluation.json").is_file()
    assert cli.main(["inspect", "hf://someone/cart"]) == 0
    assert "its own evaluation" in capsys.readouterr().out
    assert cli.main(["export", "hf://someone/cart"]) == 0
    assert (place / "someone-cart.safetensors").read_bytes() == files["agent.safetensors"]
    assert sndqn.load("hf://someone/cart").evaluation.mean == score["mean"]
    assert hub.downloads() == ALL - {"README.md", "replay.mp4"}


def test_pull_writes_a_folder_that_is_an_agent_as_any_other(
    run: RunFolder, hub: HubServer, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["push", str(run.path), "someone/cart"]) == 0
    assert cli.main(["pull", "hf://someone/cart", "--output", "in/cart"]) == 0
    assert "Next: sndqn replay in/cart" in capsys.readouterr().out
    folder = place / "in" / "cart"
    for path in folder.iterdir():
        assert not path.is_symlink()
        assert path.read_bytes() == files_of(hub)[path.name]
    assert cli.main(["replay", "in/cart"]) == 0
    assert "exists already" in refusal(["pull", "someone/cart", "--output", "in/cart"], capsys)


def test_a_training_starts_from_an_agent_of_the_hub(
    run: RunFolder, hub: HubServer, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.make("someone/cart").add(agent__safetensors=run.agent.read_bytes())
    command = ["train", "--env", "CartPole", "--net-arch", "16,16", "--total-timesteps", "60"]
    command += ["--learning-starts", "50", "--eval-episodes", "1", "--eval-max-steps", "5"]
    assert cli.main([*command, "--init-from", "hf://someone/cart", "--compile", "never"]) == 0
    assert "Starts from hf://someone/cart; new layers: none" in capsys.readouterr().out


def test_the_card_is_read_by_the_hub_and_says_nothing_of_the_machine(
    run: RunFolder, hub: HubServer, place: Path
) -> None:
    from huggingface_hub import ModelCard

    assert cli.main(["push", str(run.path), "someone/cart"]) == 0
    card = ModelCard(files_of(hub)["README.md"].decode())
    score = json.loads(run.evaluation.read_text())
    assert card.data.library_name == "sndqn"
    assert card.data.pipeline_tag == "reinforcement-learning"
    assert {"CartPole-v1", "dqn", "reinforcement-learning"} <= set(card.data.tags)
    (result,) = card.data.eval_results
    assert (result.task_type, result.dataset_type) == ("reinforcement-learning", "CartPole-v1")
    assert result.metric_type == "mean_reward"
    assert result.metric_value == f"{score['mean']:.2f} +/- {score['std']:.2f}"
    assert result.metric_args["episodes"] == 2
    low, high = result.metric_args["interval_95"]
    assert low <= score["mean"] <= high
    for word in (
        load_agent(run.agent).sha256,
        "sndqn replay hf://someone/cart",
        f"{low:.2f} to {high:.2f}",
        "sndqn train --env CartPole",
        "| -2 | `q_net.2` | 16x16 |",
    ):
        assert word in card.text
    for name in ("README.md", "config.yaml"):
        assert "pytest" not in files_of(hub)[name].decode()


def test_the_clip_is_a_film_of_the_game_of_median_return(
    run: RunFolder, hub: HubServer, place: Path
) -> None:
    assert cli.main(["push", str(run.path), "someone/cart"]) == 0
    clip = place / "clip.mp4"
    clip.write_bytes(files_of(hub)["replay.mp4"])
    episodes = json.loads(run.evaluation.read_text())["episodes"]
    game = min(range(2), key=lambda k: episodes[k]["episode_return"])  # the lower one of two
    frames, _ = imageio_ffmpeg.count_frames_and_secs(str(clip))
    assert frames == episodes[game]["length"] + 1
    assert f"game {game} of the evaluation" in files_of(hub)["README.md"].decode()


def test_an_agent_that_was_not_evaluated_is_pushed_and_its_card_says_so(
    agent_file: Path, hub: HubServer, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["push", str(agent_file), "someone/cart"]) == 0
    assert "It has no evaluation, and the card says so" in capsys.readouterr().out
    assert set(files_of(hub)) == {"README.md", "agent.safetensors"}
    card = files_of(hub)["README.md"].decode()
    assert "| score | not evaluated yet |" in card
    assert "model-index" not in yaml.safe_load(card.split("---\n")[1])
    assert cli.main(["pull", "someone/cart"]) == 0
    assert "Next: sndqn evaluate hf://someone/cart" in capsys.readouterr().out
    assert "has no evaluation of its own yet" in refusal(["replay", "hf://someone/cart"], capsys)


def test_a_later_push_replaces_what_an_earlier_one_left(
    run: RunFolder, agent_file: Path, hub: HubServer, place: Path
) -> None:
    assert cli.main(["push", str(run.path), "someone/cart"]) == 0
    hub.repos["someone/cart"].add(notes__txt=b"my own")
    assert cli.main(["push", str(agent_file), "someone/cart"]) == 0
    assert set(files_of(hub)) == {"README.md", "agent.safetensors", "notes.txt"}
    assert cli.main(["push", str(run.path), "someone/cart"]) == 0
    assert set(files_of(hub)) == {*ALL, "notes.txt"}


def test_a_shipped_agent_and_one_of_the_hub_are_pushed_alike(
    run: RunFolder, hub: HubServer, place: Path, installed: Path
) -> None:
    assert cli.main(["agents", "add", str(run.path), "--name", "tiny"]) == 0
    assert cli.main(["push", "CartPole/tiny", "someone/cart"]) == 0
    assert cli.main(["push", "hf://someone/cart", "someone/copy"]) == 0
    first, second = files_of(hub), files_of(hub, "someone/copy")
    assert set(first) == ALL
    for name in ALL - {"README.md", "replay.mp4"}:
        assert first[name] == second[name]
    assert b"The games were played with ale-py" in first["README.md"]


def test_the_study_of_a_run_comes_with_it(run: RunFolder, hub: HubServer, place: Path) -> None:
    config = place / "mine.yaml"
    config.write_text("net_arch: 16,16\ntotal_timesteps: 600\nlearning_starts: 200\n")
    arms = {"none": {"sn_layers": "none"}, "sn": {"sn_layers": "-2"}}
    values = {"config": str(config), "env": "CartPole", "seed": "0..2", "arms": arms}
    study = Study(place / "study", make_design(values, "here"))
    study.write()
    own = next(each for each in study.runs if (each.arm, each.seed) == ("sn", 0))
    for each in study.runs:
        if each is not own and each.seed != 2:
            where, layers = study.folder(each).path, arms[each.arm]["sn_layers"]
            make_run(where, "CartPole", each.seed, 100.0 + 10 * each.seed, sn_layers=layers)
    shutil.copytree(run.path, study.folder(own).path)
    assert cli.main(["push", str(study.folder(own).path), "someone/cart"]) == 0
    files = files_of(hub)
    assert set(files) == {*ALL, "study.yaml", "configs/mine.yaml"}
    assert files["configs/mine.yaml"] == config.read_bytes()
    assert yaml.safe_load(files["study.yaml"])["config"] == "configs/mine.yaml"
    assert str(place) not in files["study.yaml"].decode()
    card = files["README.md"].decode()
    assert "seed 0 of the arm `sn`: one of 6 runs of a study, of which 4 are\nevaluated" in card
    assert "    sndqn sweep STUDY --study study.yaml\n" in card
    assert str(place) not in card
    rows = re.findall(r"^\| `(\w+)` \| (\d) \| ([\d.]+) \| (.+) \|$", card, re.MULTILINE)
    assert [row[:2] for row in rows] == [("none", "2"), ("sn", "2")]
    assert rows[0][2] == "105.00"
    assert all(re.fullmatch(r"[\d.]+ to [\d.]+", row[3]) for row in rows)


def test_private_is_private(
    agent_file: Path, hub: HubServer, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["push", str(agent_file), "someone/secret", "--private"]) == 0
    assert f"{hub.url}/someone/secret: private, commit" in capsys.readouterr().out
    assert hub.repos["someone/secret"].private
    public = hub.make("someone/public")
    before = public.head()
    words = refusal(["push", str(agent_file), "someone/public", "--private"], capsys)
    assert "is there and public" in words
    assert public.head() == before


def test_what_may_not_be_pushed_is_refused_and_changes_nothing(
    run: RunFolder,
    agent_file: Path,
    hub: HubServer,
    place: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def push(name: str = "someone/cart", agent: str = str(run.path)) -> str:
        return refusal(["push", agent, name], capsys)

    assert "expected a name of the hub" in push("cart")
    assert "leave the revision out" in push("someone/cart@v1")
    assert "an agent file" in push(agent="nonsense")
    assert "your token may not do this: You don't have the rights" in push("other/cart")
    hub.make("someone/words").add(model__safetensors=b"of another kind")
    assert "found one with 'model.safetensors'" in push("someone/words")
    hub.failing = 503
    assert "the hub does not work (status 503)" in push()
    hub.failing = None
    record = run.evaluation.read_text()
    run.evaluation.write_text(record.replace(load_agent(run.agent).sha256, "0" * 64))
    assert "expected the evaluation of this agent" in push()
    run.evaluation.write_text(record)
    run.agent.write_bytes(agent_bytes()[:-1] + b"!")
    assert "damaged or changed" in push()
    monkeypatch.setenv("HF_TOKEN", "hf_of_nobody")
    assert "the hub does not take your token" in push(agent=str(agent_file))
    monkeypatch.delenv("HF_TOKEN")
    hub.log.clear()
    assert "type hf auth login, or set HF_TOKEN" in push(agent=str(agent_file))
    assert not hub.log
    assert set(hub.repos) == {"someone/words"}
    assert len(hub.repos["someone/words"].commits) == 2


def test_a_changed_file_is_refused_by_its_sha256(
    run: RunFolder, hub: HubServer, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["push", str(run.path), "someone/cart"]) == 0
    repo, sha256 = hub.repos["someone/cart"], load_agent(run.agent).sha256
    first = repo.head()
    other = agent_bytes()  # whole, sound, and another
    repo.add(agent__safetensors=other)
    pull = ["pull", "someone/cart", "--sha256", sha256, "--output", "cart"]
    words = refusal(pull, capsys)
    assert f"expected SHA-256 {sha256}, found {sha256_of(other)}: another file" in words
    for command in ("evaluate", "inspect", "export"):
        assert "another file" in refusal([command, "hf://someone/cart", "--sha256", sha256], capsys)
    assert not list(place.iterdir())
    assert cli.main(["pull", f"someone/cart@{first}", "--sha256", sha256]) == 0
    repo.add(agent__safetensors=other[:-1] + b"!")
    assert "damaged or changed" in refusal(["pull", "someone/cart", "--output", "cart"], capsys)
    assert not list(place.iterdir())


@pytest.mark.parametrize("file", ["evaluation.json", "config.yaml", "episodes.jsonl"])
@pytest.mark.parametrize("content", [b"[" * 5000, b"7", b"\x00\xff", b"a: &a [*a, *a]\n"])
def test_nonsense_beside_an_agent_is_refused_in_a_line(
    file: str,
    content: bytes,
    run: RunFolder,
    hub: HubServer,
    place: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    sound = {path.name: path.read_bytes() for path in run.path.iterdir() if path.name in ALL}
    hub.make("someone/cart").change({**sound, file: content})
    command = "evaluate" if file == "config.yaml" else "replay"
    assert refusal([command, "hf://someone/cart"], capsys)
    assert not [path for path in place.rglob("*") if path.is_file()]


def test_a_process_of_its_own_finds_the_hub_by_its_variables(
    hub: HubServer, place: Path, tmp_path: Path
) -> None:
    hub.make("someone/cart", private=True).add(agent__safetensors=b"anything")
    home = tmp_path / "home"
    variables = {"HF_ENDPOINT": hub.url, "HF_HOME": str(home), "HF_TOKEN": TOKEN}
    code = """\
import sys
from sndqn.agents.hub import fetch
from sndqn.agents.hub_names import hub_name
folder = fetch(hub_name("hf://someone/cart"))
print((folder / "agent.safetensors").read_text(), "torch" in sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert (done.stderr, done.stdout) == ("", "anything False\n")
    assert (home / "hub" / "models--someone--cart").is_dir()


def test_the_commands_of_its_page_do_what_they_say(
    run: RunFolder,
    hub: HubServer,
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    page = (Path(__file__).parents[2] / "docs" / "hub.md").read_text()
    blocks = "".join(re.findall(r"^```bash\n(.*?)^```", page, re.MULTILINE | re.DOTALL))
    sha256 = load_agent(run.agent).sha256
    words = {"runs/CartPole-v1/...": str(run.path), "USER/NAME": "someone/cart"}
    words["701e2b30..."] = sha256
    lines = [line.partition("#")[0].split() for line in blocks.splitlines()]
    commands = [line for line in lines if "sndqn" in line]
    assert len(commands) == 6
    for line in commands:
        if "HF_HUB_OFFLINE=1" in line:
            monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        typed = " ".join(line[line.index("sndqn") + 1 :])
        for word, meant in words.items():
            typed = typed.replace(word, meant)
        assert cli.main(typed.split()) == 0
        if typed.startswith("push"):
            repo = hub.repos["someone/cart"]
            repo.tags["v1"] = repo.head()
    assert f"sha256 {sha256}" in capsys.readouterr().out
    assert sorted(path.name for path in place.iterdir()) == ["cart", "someone-cart-evaluation"]
