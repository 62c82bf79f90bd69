import os

import numpy as np
import pytest
from stable_baselines3 import DQN
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.preprocessing import is_image_space, is_image_space_channels_first
from stable_baselines3.common.vec_env import VecTransposeImage

from sndqn.envs import AtariSettings, make_env, make_vec_env
from sndqn.envs.atari_vector import AtariVecEnv
from sndqn.errors import ConfigError


def play(vec_env, length, seed=0):
    """Step with a fixed script of random actions; return the list of results."""
    rng = np.random.default_rng(seed)
    shape = (length, vec_env.num_envs)
    return [vec_env.step(a) for a in rng.integers(vec_env.action_space.n, size=shape)]


def is_same(first, second):
    return all(
        all(np.array_equal(x, y) for x, y in zip(a[:3], b[:3], strict=True))
        and [i["lives"] for i in a[3]] == [i["lives"] for i in b[3]]
        for a, b in zip(first, second, strict=True)
    )


def single_games(settings, seed, actions):
    """Play the actions in an AtariEnv; return the record of each game and the step it ended at."""
    env = make_env(settings)
    env.reset(seed=seed)
    games, score, length = [], 0.0, 0
    for step, action in enumerate(actions):
        _, reward, terminated, truncated, _ = env.step(action)
        score, length = score + reward, length + 1
        if terminated or truncated:
            games.append((step, score, length, truncated))
            score, length = 0.0, 0
            env.reset()
    return games


@pytest.mark.parametrize("game", ["breakout", "pong", "seaquest"])
@pytest.mark.parametrize(("sticky_actions", "training"), [(0.0, True), (0.25, True), (0.25, False)])
def test_reported_games_are_those_of_a_single_emulator(game, sticky_actions, training):
    settings = AtariSettings(game=game, sticky_actions=sticky_actions, max_frames=1201)
    vec_env = make_vec_env(settings, 2, seed=5, training=training)
    seeds = list(vec_env._seeds)
    vec_env.reset()
    actions = np.random.default_rng(0).integers(vec_env.action_space.n, size=(640, 2))
    results = [vec_env.step(a) for a in actions]
    for index, seed in enumerate(seeds):
        reported = [
            (
                step,
                infos[index]["episode"]["r"],
                infos[index]["episode"]["l"],
                infos[index]["TimeLimit.truncated"],
            )
            for step, (_, _, _, infos) in enumerate(results)
            if "episode" in infos[index]
        ]
        assert reported == single_games(settings, seed, actions[:, index].tolist())
        assert len(reported) > 1
        if not training:
            dones = [step for step, (_, _, dones, _) in enumerate(results) if dones[index]]
            assert dones == [game[0] for game in reported]


def test_life_loss_ends_no_game():
    vec_env = make_vec_env(AtariSettings(), 2, seed=1)
    vec_env.reset()
    ends = {"life": 0, "game": 0}
    lives = [5, 5]
    for observations, _, dones, infos in play(vec_env, 700):
        for index, info in enumerate(infos):
            if not dones[index]:
                assert "episode" not in info
                assert "terminal_observation" not in info
                assert info["lives"] == lives[index]
            elif "episode" in info:
                ends["game"] += 1
                assert info["lives"] == 5
                # The next game starts from an empty stack, the last one ended on a full one.
                assert not observations[index][:-1].any()
                assert info["terminal_observation"][0].any()
            else:
                ends["life"] += 1
                assert info["lives"] == lives[index] - 1
                assert not info["TimeLimit.truncated"]
                assert np.array_equal(info["terminal_observation"], observations[index])
            lives[index] = info["lives"]
    # The fifth life of a game ends the game.
    assert ends["game"] >= 4
    assert 4 * ends["game"] <= ends["life"] < 4 * ends["game"] + 8


def test_a_life_lost_at_the_frame_cap_ends_the_game():
    settings = AtariSettings(noop_max=0)
    vec_env = make_vec_env(settings, seed=0)
    vec_env.reset()
    first_loss = next(step for step, result in enumerate(play(vec_env, 300)) if result[2][0])
    capped = make_vec_env(AtariSettings(noop_max=0, max_frames=4 * (first_loss + 1)), seed=0)
    capped.reset()
    info = play(capped, first_loss + 1)[-1][3][0]
    assert info["episode"]["l"] == first_loss + 1
    assert info["lives"] == 5
    assert not info["TimeLimit.truncated"]


def test_a_game_without_lives_ends_only_at_its_end_or_at_the_cap():
    vec_env = make_vec_env(AtariSettings(game="pong", max_frames=400), 2, seed=0)
    vec_env.reset()
    dones = [(d.tolist(), i) for _, _, d, i in play(vec_env, 250)]
    assert [step for step, (done, _) in enumerate(dones) if any(done)] == [99, 199]
    assert all(info["TimeLimit.truncated"] for info in dones[99][1])
    assert all(info["episode"]["l"] == 100 for info in dones[199][1])


def test_the_terminal_observation_is_the_last_of_the_game():
    settings = AtariSettings(game="pong", max_frames=202)
    vec_env = make_vec_env(settings, seed=3)
    env = make_env(settings)
    env.reset(seed=vec_env._seeds[0])
    vec_env.reset()
    _, _, dones, infos = play(vec_env, 51)[-1]
    actions = np.random.default_rng(0).integers(6, size=(51, 1))
    for action in actions[:, 0]:
        observation, *_ = env.step(action)
    assert dones[0]
    assert np.array_equal(infos[0]["terminal_observation"], observation)


def test_rewards_are_clipped_in_training_only_and_scores_never():
    settings = AtariSettings(game="ms_pacman", max_frames=2000)
    training = make_vec_env(settings, seed=0)
    evaluating = make_vec_env(settings, seed=0, training=False)
    unclipped = make_vec_env(AtariSettings(game="ms_pacman", clip_rewards=False), seed=0)
    results = []
    for vec_env in (training, evaluating, unclipped):
        vec_env.reset()
        results.append(play(vec_env, 500))
    clipped, raw, also_raw = (np.array([r[1][0] for r in result]) for result in results)
    assert raw.max() >= 10
    assert np.array_equal(raw, also_raw)
    assert np.array_equal(clipped, np.sign(raw))
    end = next(step for step, r in enumerate(results[0]) if "episode" in r[3][0])
    assert results[0][end][3][0]["episode"]["r"] == raw[: end + 1].sum()


@pytest.mark.parametrize("sticky_actions", [0.0, 0.25])
def test_the_same_seed_repeats_whatever_came_before(sticky_actions):
    settings = AtariSettings(sticky_actions=sticky_actions)
    fresh = make_vec_env(settings, 3, seed=11)
    used = AtariVecEnv(settings, 3, num_threads=1)
    used.reset()
    play(used, 123, seed=9)
    used.seed(11)
    assert np.array_equal(fresh.reset(), used.reset())
    assert is_same(play(fresh, 500), play(used, 500))


def test_some_environments_can_restart_seeded_while_the_others_go_on():
    settings = AtariSettings(sticky_actions=0.25)
    restarted, undisturbed = (make_vec_env(settings, 3, seed=2) for _ in range(2))
    for vec_env in (restarted, undisturbed):
        vec_env.reset()
        last = play(vec_env, 150)[-1][0]
    observations = restarted.reset_envs([2, 0], [40, 41])
    assert np.array_equal(observations[1], last[1])
    alone = make_env(settings)
    assert np.array_equal(alone.reset(seed=40)[0], observations[2])
    went_on, from_there = play(restarted, 250, seed=8), play(undisturbed, 250, seed=8)
    for a, b in zip(went_on, from_there, strict=True):
        assert np.array_equal(a[0][1], b[0][1])
        assert a[3][1].get("episode", {}).get("r") == b[3][1].get("episode", {}).get("r")
    lengths = [i[2]["episode"]["l"] for _, _, _, i in went_on if "episode" in i[2]]
    assert lengths[0] < 250


def test_different_environments_and_seeds_play_differently():
    vec_env = make_vec_env(AtariSettings(sticky_actions=0.25), 2, seed=0)
    other = make_vec_env(AtariSettings(sticky_actions=0.25), 2, seed=1)
    assert len({*vec_env._seeds, *other._seeds}) == 4
    vec_env.reset()
    same_actions = [vec_env.step(np.full(2, t % 4)) for t in range(200)]
    assert any(not np.array_equal(*observations) for observations, *_ in same_actions)


def test_stepping_is_asynchronous_and_a_reset_cancels_it():
    vec_env = make_vec_env("Breakout", 2, seed=0)
    first = vec_env.reset()
    vec_env.step_async(np.zeros(2, int))
    vec_env.seed(0)
    assert np.array_equal(vec_env.reset(), first)
    assert play(vec_env, 1)[0][0].shape == (2, 4, 84, 84)
    vec_env.step_async(np.zeros(2, int))
    vec_env.close()


@pytest.mark.skipif(not hasattr(os, "SCHED_BATCH"), reason="needs Linux")
def test_emulators_interrupt_no_other_thread_and_the_callers_goes_on_as_it_was():
    def threads():
        return {int(name) for name in os.listdir("/proc/self/task")}

    policy, before = os.sched_getscheduler(0), threads()
    if policy != os.SCHED_OTHER:
        pytest.skip("started under another scheduling policy")
    vec_env = make_vec_env("Breakout", 2, seed=0)
    emulating = threads() - before
    assert emulating
    assert {os.sched_getscheduler(thread) for thread in emulating} == {os.SCHED_BATCH}
    assert os.sched_getscheduler(0) == policy
    vec_env.reset()


def test_where_the_scheduling_policy_may_not_be_changed_emulators_keep_it(monkeypatch):
    def refuse(*args):
        raise PermissionError

    monkeypatch.setattr(os, "sched_setscheduler", refuse, raising=False)
    vec_env = make_vec_env("Breakout", 1, seed=0)
    assert vec_env.reset().shape == (1, 4, 84, 84)


def test_arrays_handed_out_are_never_written_to_again():
    vec_env = make_vec_env("Breakout", 2, seed=0)
    vec_env.reset()
    results = play(vec_env, 300)
    copies = [r[0].copy() for r in results]
    play(vec_env, 50)
    assert all(np.array_equal(r[0], c) for r, c in zip(results, copies, strict=True))


def test_an_action_that_does_not_exist_is_refused_instead_of_hanging():
    vec_env = make_vec_env("Breakout", 2)
    vec_env.reset()
    for actions in ([0, 4], [-1, 0]):
        with pytest.raises(ConfigError, match="actions 0 to 3"):
            vec_env.step(np.array(actions))


def test_sb3_takes_the_observations_as_images_with_channels_first():
    vec_env = make_vec_env("Breakout", 2, seed=0)
    assert is_image_space(vec_env.observation_space)
    assert is_image_space_channels_first(vec_env.observation_space)
    model = DQN("CnnPolicy", vec_env, buffer_size=100, learning_starts=20, train_freq=4, seed=0)
    assert model.get_env() is vec_env
    assert not isinstance(model.get_env(), VecTransposeImage)
    model.learn(60)


def test_sb3_evaluates_whole_games_through_it():
    vec_env = make_vec_env(AtariSettings(max_frames=200), 2, seed=0)
    assert vec_env.env_is_wrapped(Monitor) == [True, True]
    model = DQN("CnnPolicy", vec_env, buffer_size=100, seed=0)
    _, lengths = evaluate_policy(
        model, vec_env, n_eval_episodes=2, deterministic=False, return_episode_rewards=True
    )
    assert len(lengths) == 2
    assert lengths == [50, 50]


def test_attributes_are_those_of_the_vector_environment():
    vec_env = make_vec_env("Breakout", 2)
    assert vec_env.get_attr("settings") == [AtariSettings()] * 2
    assert vec_env.env_method("get_action_meanings", indices=0)[0][0] == "NOOP"
    assert not vec_env.has_attr("no_such_thing")
    with pytest.raises(NotImplementedError):
        vec_env.set_attr("frame_skip", 2)
    with pytest.raises(ConfigError, match="n_envs"):
        make_vec_env("Breakout", 0)
