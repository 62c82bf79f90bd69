import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sndqn.envs.settings import (
    ATARI_PROTOCOLS,
    AtariSettings,
    ControlSettings,
    MinAtarSettings,
    settings_from_dict,
)
from sndqn.errors import ConfigError


@given(
    st.builds(
        AtariSettings,
        game=st.sampled_from(["breakout", "ms_pacman"]),
        protocol=st.sampled_from(sorted(ATARI_PROTOCOLS)),
        noop_max=st.integers(0, 1000),
        sticky_actions=st.floats(0, 1, exclude_max=True),
        life_loss=st.booleans(),
        frame_skip=st.integers(1, 60),
        max_frames=st.integers(1, 10_000_000),
    )
)
def test_settings_survive_json(settings):
    assert settings_from_dict(json.loads(json.dumps(settings.to_dict()))) == settings


@pytest.mark.parametrize(
    "settings",
    [
        MinAtarSettings(game="seaquest"),
        MinAtarSettings(wrappers=["package.wrappers:Flat"]),
        ControlSettings(),
        ControlSettings(arranged=False),
        ControlSettings(modules=["minigrid"], wrappers=["a:B", "c.d:E"]),
        ControlSettings(env_kwargs={"desc": ["SF", "FG"], "map_name": None, "deep": {"a": [1.5]}}),
        ControlSettings(env_kwargs={"max_episode_steps": 50}),
    ],
)
def test_settings_of_the_other_suites_survive_json(settings):
    assert settings_from_dict(json.loads(json.dumps(settings.to_dict()))) == settings


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"suite": "atari", "frameskip": 4}, "no setting frameskip"),
        ({"suite": "nintendo"}, "suite: expected one of atari, minatar, control"),
        ({"game": "breakout"}, "suite: expected"),
        ({"suite": ["atari"]}, "suite: expected"),
        ({"suite": "atari", "frame_skip": 0}, "frame_skip: expected between 1 and 60"),
        ({"suite": "atari", "frame_skip": "4"}, "frame_skip: expected of type int"),
        ({"suite": "atari", "frame_skip": True}, "frame_skip: expected of type int"),
        ({"suite": "atari", "life_loss": 1}, "life_loss: expected of type bool"),
        ({"suite": "atari", "sticky_actions": 1.0}, "probability"),
        ({"suite": "atari", "sticky_actions": float("nan")}, "probability"),
        ({"suite": "atari", "game": "../../etc/passwd"}, "ROM name"),
        ({"suite": "atari", "protocol": "gymnasium"}, "protocol: expected one of nature"),
        ({"suite": "atari", "screen_size": 100_000}, "screen_size"),
        ({"suite": "minatar", "game": "pong"}, "game: expected one of asterix"),
        ({"suite": "control", "env_id": "os:system"}, "env_id"),
        ({"suite": "control", "env_id": "../CartPole-v1"}, "env_id"),
        ({"suite": "control", "env_id": "GymV21Environment-v0"}, "env_id"),
        ({"suite": "atari", "sticky_actions": 10**400}, "sticky_actions: expected of type float"),
        ([("suite", "atari")], "a mapping"),
        (
            {"suite": "control", "wrappers": ["os.system"]},
            "wrappers: expected a list of module:Class",
        ),
        ({"suite": "control", "wrappers": "a:B"}, "wrappers: expected of type list"),
        ({"suite": "control", "modules": ["os; x"]}, "modules: expected a list of a module"),
        ({"suite": "control", "env_kwargs": {"a": [[[[[1]]]]]}}, "at most 4 in each other"),
        ({"suite": "control", "env_kwargs": {"a": {1: 2}}}, "whose keys are words"),
        ({"suite": "control", "env_kwargs": {"a": float("nan")}}, "a finite number"),
        ({"suite": "control", "env_kwargs": {"a": 10**30}}, "a finite number"),
        ({"suite": "control", "env_kwargs": {"a": [0] * 10_001}}, "fewer values"),
        ({"suite": "control", "env_kwargs": {"render_mode": "human"}}, "of the environment itself"),
        ({"suite": "control", "env_kwargs": {"max_episode_steps": 0}}, "a number of steps"),
    ],
)
def test_damaged_settings_are_refused(data, message):
    with pytest.raises(ConfigError, match=message):
        settings_from_dict(data)


def test_a_tuple_in_env_kwargs_is_the_list_that_a_file_gives_back():
    given = ControlSettings(env_kwargs={"a": (1, (2, 3))})
    assert given == ControlSettings(env_kwargs={"a": [1, [2, 3]]})


def test_settings_of_a_file_without_arrangement_stay_as_they_were_written():
    written = {"suite": "control", "env_id": "A-v0", "protocol": "gymnasium", "env_kwargs": {}}
    assert settings_from_dict(written).to_dict() == written


def test_equal_settings_have_equal_dicts_whatever_the_number_was_written_as():
    assert repr(AtariSettings(sticky_actions=0).to_dict()) == repr(AtariSettings().to_dict())


def test_description_is_one_line_and_follows_the_settings():
    nature = AtariSettings().describe()
    assert nature == (
        "Breakout: Atari, protocol nature (no sticky actions, 0 to 29 no-ops, 4 frames per step, "
        "cap 108000 frames; training: life loss ends an episode, rewards clipped to [-1, 1]; "
        "scores are raw, of whole games)"
    )
    changed = AtariSettings(sticky_actions=0.25, noop_max=0, fire_reset=True).describe()
    assert "protocol nature with noop_max=0, sticky_actions=0.25, fire_reset=True" in changed
    assert (
        "sticky actions 0.25, no no-ops, then FIRE and action 2, and after each lost life"
        in changed
    )
    for settings in (MinAtarSettings(sticky_actions=0.0), ControlSettings()):
        assert settings.describe().startswith(f"{settings.name}: ")
        assert "\n" not in settings.describe()
    assert "no sticky actions" in MinAtarSettings(sticky_actions=0.0).describe()


def test_frames_per_step_is_the_frame_skip():
    assert AtariSettings(frame_skip=5).frames_per_step == 5
    assert MinAtarSettings().frames_per_step == ControlSettings().frames_per_step == 1
