"""A study's settings: what they mean, and what is refused."""

from pathlib import Path
from typing import Any

import pytest

from sndqn.errors import ConfigError, SndqnError
from sndqn.study.design import make_design, matches, read_design, resolve, same_value

DESIGN: dict[str, Any] = {
    "config": "young-tian",
    "settings": {"total_timesteps": 200_000},
    "env": ["MinAtar/Breakout", "MinAtar/Asterix"],
    "seed": "0..2",
    "arms": {"none": {"sn_layers": "none"}, "sn-2": {"sn_layers": -2}},
    "grid": {"learning_rate": ["1e-4", 1e-3]},
    "exclude": [{"env": "MinAtar/Asterix", "learning_rate": "1e-3"}],
}


def runs(**changes: Any) -> list[Any]:
    return resolve(make_design({**DESIGN, **changes}, "study.yaml"))


def test_arms_games_seeds_and_grid_are_crossed_but_for_what_is_excluded() -> None:
    found = runs()
    assert len(found) == 3 * (2 * 2 + 2)
    cells = {(run.env, run.arm) for run in found}
    assert ("MinAtar/Breakout", "sn-2-lr0.001") in cells
    assert ("MinAtar/Asterix", "sn-2-lr0.001") not in cells
    assert {run.settings["sn_layers"] for run in found} == {"none", "-2"}
    assert {run.settings["total_timesteps"] for run in found} == {200_000}


def test_every_arm_and_game_of_a_seed_comes_before_the_next_seed() -> None:
    seeds = [run.seed for run in runs()]
    assert seeds == sorted(seeds)
    assert len({(run.env, run.arm) for run in runs()[:6]}) == 6


def test_a_run_has_one_thread_unless_told() -> None:
    assert {run.settings["threads"] for run in runs()} == {1}
    assert {run.settings["threads"] for run in runs(settings={"threads": 2})} == {2}


def test_a_name_changes_with_what_decides_the_results_and_with_nothing_else() -> None:
    names = [run.name for run in runs(arms={}, grid={}, exclude=[], seed=7)]
    assert [name.rpartition("-")[0] for name in names] == [
        "MinAtar-Breakout-young-tian-seed7",
        "MinAtar-Asterix-young-tian-seed7",
    ]

    def named(**settings: Any) -> list[str]:
        changed = {"total_timesteps": 200_000, **settings}
        return [run.name for run in runs(arms={}, grid={}, exclude=[], seed=7, settings=changed)]

    assert named(device="cpu", threads=2, tensorboard=False, checkpoint_every_timesteps=7) == names
    assert not set(named(gamma=0.9)) & set(names)
    assert not set(named(eval_episodes=11)) & set(names)


def test_several_tasks_are_one_value() -> None:
    (run,) = runs(env="MinAtar/Breakout,MinAtar/Asterix", arms={}, grid={}, exclude=[], seed=0)
    assert run.env == "MinAtar/Breakout,MinAtar/Asterix"
    assert run.name.startswith("MinAtar-Breakout+MinAtar-Asterix-")


def test_an_arm_may_have_a_configuration_of_its_own() -> None:
    found = runs(
        env="MinAtar/Breakout", seed=0, arms={"plain": {}, "r": {"config": "rainbow"}},
        grid={}, exclude=[],
    )  # fmt: skip
    assert [run.settings["algo"] for run in found] == ["dqn", "c51"]
    grid = {"config": ["young-tian", "rainbow"]}
    found = runs(env="MinAtar/Breakout", seed=0, arms={}, grid=grid, exclude=[])
    assert [run.arm for run in found] == ["young-tian", "rainbow"]


@pytest.mark.parametrize("values", [3, "3", [3], ["3..3"], "3..3"])
def test_seeds_are_a_number_a_range_or_a_list(values: object) -> None:
    assert make_design({"env": "CartPole", "seed": values}, "x").seed == (3,)


def test_a_design_is_read_as_it_was_written(tmp_path: Path) -> None:
    design = make_design(DESIGN, "study.yaml")
    (tmp_path / "study.yaml").write_text(design.to_yaml())
    assert read_design(tmp_path / "study.yaml") == design
    assert "seed: 0..2" in design.to_yaml()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"envs": "X"}, "expected the keys config, settings.*'envs': did you mean env"),
        ({"gamma": 0.9}, "'gamma'. It is a setting: put it under `settings:`"),
        ({"settings": {"sede": 1}}, "settings: no setting is called 'sede': did you mean seed"),
        ({"settings": {"seed": 1}}, "settings: expected no seed: give it as the study's own seed"),
        ({"settings": {"runs_dir": "x"}}, "expected no runs_dir: a study has its own folder"),
        ({"arms": {"a": {"env": "x"}}}, "arms: a: expected no env"),
        ({"arms": {"../a": {}}}, "arms: expected a name of letters"),
        ({"seed": "9..0"}, "seed: expected a range such as 0..9"),
        ({"seed": -1}, "seed: 0: expected greater than or equal to 0, found -1"),
        ({"seed": []}, "seed: .*found \\[\\]"),
        ({"grid": {"gamma": []}}, "grid: gamma: .*found \\[\\]"),
        ({"grid": {"gamma": [0.9, 2]}}, "gamma 2: gamma: expected"),
        ({"env": ["MinAtar/Nonsense"]}, "Nonsense"),
        ({"exclude": [{"gamma": 0.123}]}, "exclude: expected settings of some runs"),
        ({"exclude": [{"gama": 0.123}]}, "exclude: no setting is called 'gama': did you"),
        ({"exclude": [{"algo": "dqn"}]}, "nothing is left to run"),
        ({"arms": {"a": {}, "b": {}}}, "arms a-lr0.0001 and b-lr0.0001 have the same settings"),
        ({"env": ["MinAtar/Breakout"] * 2, "exclude": []}, "two runs have the same settings"),
        ({"config": "no-such"}, "no shipped configuration is called 'no-such'"),
    ],
)  # fmt: skip
def test_what_is_no_study_is_refused_in_words(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(SndqnError, match=message):
        runs(**changes)


def test_what_is_no_mapping_is_refused() -> None:
    with pytest.raises(ConfigError, match="expected a study's keys"):
        make_design(["env"], "study.yaml")
    with pytest.raises(ConfigError, match="env: missing"):
        make_design({}, "study.yaml")


@pytest.mark.parametrize(
    ("found", "typed"),
    [("-2", -2), ("-2,-3", [-2, -3]), (1e-3, "1e-3"), (None, "none"), (True, "true"),
     ((64, 64), "64,64"), ("none", "none"), ({"a": 1}, {"a": 1})],
)  # fmt: skip
def test_a_setting_is_what_was_typed(found: object, typed: object) -> None:
    assert same_value(found, typed)


@pytest.mark.parametrize(("found", "typed"), [("-2", "-3"), (True, 1), (None, 0), ("a", "b")])
def test_another_setting_is_not(found: object, typed: object) -> None:
    assert not same_value(found, typed)


def test_runs_are_chosen_by_their_settings_and_arm() -> None:
    chosen = [run for run in runs() if matches(run, {"sn_layers": "-2", "seed": 1})]
    assert {run.arm for run in chosen} == {"sn-2-lr0.0001", "sn-2-lr0.001"}
    assert all(matches(run, {"arm": run.arm}) for run in chosen)
