"""What rl-zoo's YAML says of an environment, written as rl-zoo writes it."""

from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import yaml

from sndqn.agents.find import find_agent
from sndqn.agents.zoo_folder import zoo_settings, zoo_zip
from sndqn.envs import AtariSettings, ControlSettings, EnvSettings, use_wrapper
from sndqn.errors import AgentFileError, ConfigError, SndqnError, UntypedCodeError

ATARI_WRAPPER = "stable_baselines3.common.atari_wrappers.AtariWrapper"
ATARI = {"env_wrapper": [ATARI_WRAPPER], "frame_stack": 4}


def folder_of(
    place: Path, args: dict[str, Any], config: dict[str, Any] | None = None, name: str = "model"
) -> Path:
    (place / name).mkdir(parents=True)
    (place / f"{name}.zip").write_bytes(b"PK\3\4")
    (place / name / "args.yml").write_text(yaml.dump(OrderedDict(args)))
    (place / name / "config.yml").write_text(yaml.dump(OrderedDict(config or {})))
    return place


def settings_of(
    place: Path, args: dict[str, Any], config: dict[str, Any] | None = None
) -> EnvSettings:
    found = zoo_settings(folder_of(place, args, config) / "model.zip")
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("args", "config", "expected"),
    [
        ({"env": "CartPole-v1"}, {}, ControlSettings(env_id="CartPole-v1")),
        (
            {"env": "Acrobot-v1", "env_kwargs": None, "gym_packages": []},
            {"env_kwargs": {"max_episode_steps": 7}, "normalize": False, "frame_stack": None},
            ControlSettings(env_id="Acrobot-v1", env_kwargs={"max_episode_steps": 7}),
        ),
        (
            {"env": "CartPole-v1", "env_kwargs": {"sutton_barto_reward": True}},
            {"env_kwargs": {"max_episode_steps": 7}},
            ControlSettings(env_kwargs={"sutton_barto_reward": True}),
        ),
        (
            {"env": "CartPole-v1"},
            {"normalize": "dict(norm_obs=False, norm_reward=True)"},
            ControlSettings(),
        ),
        (
            {"env": "BreakoutNoFrameskip-v4"},
            ATARI,
            AtariSettings(protocol="sb3", fire_reset=True),
        ),
        (
            {"env": "PongNoFrameskip-v0"},
            {"env_wrapper": ATARI_WRAPPER},
            AtariSettings(
                game="pong", protocol="sb3", fire_reset=True, sticky_actions=0.25, frame_stack=1
            ),
        ),
        (
            {"env": "ALE/Pong-v5", "env_kwargs": {"frameskip": 1, "full_action_space": True}},
            {**ATARI, "env_kwargs": {"frameskip": 2}},
            AtariSettings(
                game="pong",
                protocol="sb3",
                fire_reset=True,
                sticky_actions=0.25,
                full_action_space=True,
            ),
        ),
        (
            {"env": "PongNoFrameskip-v4"},
            {
                "env_wrapper": [
                    {
                        ATARI_WRAPPER: {
                            "terminal_on_life_loss": False,
                            "clip_reward": False,
                            "action_repeat_probability": 0.1,
                            "noop_max": 5,
                            "screen_size": 64,
                            "frame_skip": 3,
                        }
                    }
                ],
                "frame_stack": 2,
            },
            AtariSettings(
                game="pong",
                protocol="sb3",
                fire_reset=True,
                life_loss=False,
                clip_rewards=False,
                sticky_actions=0.1,
                noop_max=5,
                screen_size=64,
                frame_skip=3,
                frame_stack=2,
            ),
        ),
    ],
)
def test_the_environment_is_that_of_the_training(
    args: dict[str, Any], config: dict[str, Any], expected: EnvSettings, tmp_path: Path
) -> None:
    assert settings_of(tmp_path, args, config) == expected


WRAPPER = "gymnasium.wrappers.FlattenObservation"


@pytest.mark.parametrize(
    ("args", "config", "words"),
    [
        ({}, {}, "env: expected an id such as CartPole-v1, found None"),
        ({"env": "os:CartPole-v1"}, {}, "env: expected an id"),
        ({"env": "CartPoel-v1"}, {}, "did you mean CartPole"),
        ({"env": "My-v0", "gym_packages": ["my_envs"]}, {}, "--import my_envs"),
        ({"env": "CartPole-v1", "gym_packages": [1]}, {}, "gym_packages: expected words"),
        ({"env": "CartPole-v1", "env_kwargs": [1]}, {}, "env_kwargs: expected a mapping"),
        ({"env": "CartPole-v1"}, {"normalize": True}, "vecnormalize.pkl, a pickle"),
        ({"env": "CartPole-v1"}, {"normalize": "{'norm_obs': True}"}, "vecnormalize.pkl, a pickle"),
        ({"env": "CartPole-v1"}, {"frame_stack": 3}, "frame_stack: expected none, found 3"),
        ({"env": "CartPole-v1"}, {"vec_env_wrapper": "a.B"}, "vec_env_wrapper: expected none"),
        ({"env": "CartPole-v1"}, {"env_wrapper": [3]}, "env_wrapper: expected names"),
        ({"env": "CartPole-v1"}, {"env_wrapper": [{WRAPPER: {"a": 1}}]}, "the environment alone"),
        ({"env": "BreakoutNoFrameskip-v4"}, {}, "env_wrapper: expected AtariWrapper"),
        ({"env": "ALE/Breakout-v5"}, ATARI, "skips 4: up to 16 frames"),
        ({"env": "BreakoutDeterministic-v4"}, ATARI, "skips frames by itself"),
        (
            {"env": "BreakoutNoFrameskip-v4", "env_kwargs": {"mode": 3}},
            ATARI,
            "env_kwargs: expected repeat_action_probability",
        ),
        (
            {"env": "BreakoutNoFrameskip-v0"},
            {"env_wrapper": {ATARI_WRAPPER: {"action_repeat_probability": 0.5}}},
            "found both",
        ),
        (
            {"env": "BreakoutNoFrameskip-v4"},
            {"env_wrapper": {ATARI_WRAPPER: {"noop_max": "x"}}},
            "noop_max: expected of type int",
        ),
    ],
)
def test_what_sndqn_does_not_play_is_refused_in_a_line_or_two(
    args: dict[str, Any], config: dict[str, Any], words: str, tmp_path: Path
) -> None:
    with pytest.raises(SndqnError) as refusal:
        settings_of(tmp_path, args, config)
    assert words in str(refusal.value)
    assert "args.yml: " in str(refusal.value)
    assert len(str(refusal.value).splitlines()) == 1


def test_a_wrapper_runs_only_if_it_is_typed(tmp_path: Path) -> None:
    name = "gymnasium.wrappers:NormalizeReward"
    folder_of(tmp_path, {"env": "CartPole-v1"}, {"env_wrapper": name.replace(":", ".")})
    with pytest.raises(UntypedCodeError, match=f"--wrapper {name}"):
        zoo_settings(tmp_path / "model.zip")
    use_wrapper(name)
    assert zoo_settings(tmp_path / "model.zip") == ControlSettings(wrappers=[name])


def test_the_last_network_of_a_folder_is_taken_and_another_by_its_path(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "CartPole-v1_1", {"env": "CartPole-v1"}, name="CartPole-v1")
    best = folder / "best_model.zip"
    best.write_bytes(b"PK\3\4")
    assert zoo_zip(folder) == folder / "CartPole-v1.zip"
    assert zoo_settings(best) == ControlSettings()
    place = find_agent(str(folder))
    assert place.file == folder / "CartPole-v1.zip"
    assert place.output.path == folder / "CartPole-v1-evaluation"
    (folder / "CartPole-v1.zip").unlink()
    (folder / "rl_model_9_steps.zip").write_bytes(b"PK\3\4")
    with pytest.raises(AgentFileError, match=r"found best_model\.zip, rl_model_9_steps\.zip: type"):
        find_agent(str(folder))


def test_the_files_may_lie_beside_the_zip_as_on_the_hub(tmp_path: Path) -> None:
    for name in ("dqn-CartPole-v1.zip", "train_eval_metrics.zip"):
        (tmp_path / name).write_bytes(b"PK\3\4")
    (tmp_path / "args.yml").write_text(yaml.dump(OrderedDict(env="CartPole-v1")))
    assert zoo_zip(tmp_path) == tmp_path / "dqn-CartPole-v1.zip"
    assert zoo_settings(tmp_path / "dqn-CartPole-v1.zip") == ControlSettings()


def test_other_folders_are_none_of_a_zoo(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    (tmp_path / "model.zip").write_bytes(b"PK\3\4")
    assert zoo_zip(tmp_path) is None
    assert zoo_settings(tmp_path / "model.zip") is None


def test_files_that_name_code_are_refused(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    folder_of(tmp_path, {"env": "CartPole-v1"})
    evil = f"!!python/object/apply:os.mkdir ['{marker}']"
    for name in ("args.yml", "config.yml"):
        path = tmp_path / "model" / name
        good = path.read_text()
        for words in (evil, f"env: {evil}"):
            path.write_text(words)
            with pytest.raises(ConfigError, match=f"{name}: .*which is not read"):
                zoo_settings(tmp_path / "model.zip")
        path.write_text(good)
    assert not marker.exists()
    yaml.load(evil, yaml.UnsafeLoader)  # noqa: S506 (it works where it is let)
    assert marker.exists()
