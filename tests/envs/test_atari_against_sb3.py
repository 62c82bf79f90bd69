"""What AtariEnv and AtariVecEnv share with SB3's wrappers, and every difference we know."""

import numpy as np
import pytest

from sndqn.envs import AtariSettings, make_env, make_vec_env, resolve_env

cv2 = pytest.importorskip("cv2", reason="SB3's wrappers need opencv")
gymnasium = pytest.importorskip("gymnasium")
ale_py = pytest.importorskip("ale_py")
wrappers = pytest.importorskip("stable_baselines3.common.atari_wrappers")
monitor = pytest.importorskip("stable_baselines3.common.monitor")
vec_envs = pytest.importorskip("stable_baselines3.common.vec_env")


def atari(game="Breakout", **kwargs):
    gymnasium.register_envs(ale_py)
    return gymnasium.make(f"{game}NoFrameskip-v4", disable_env_checker=True, **kwargs)


def script(length, n_actions):
    return np.random.default_rng(0).integers(n_actions, size=length).tolist()


def play_both(ours, theirs, length):
    """Yield both environments' steps of the same actions, resetting both at every end."""
    ours.reset(seed=0)
    theirs.reset(seed=0)
    for action in script(length, ours.action_space.n):
        ours_step, theirs_step = ours.step(action), theirs.step(action)
        yield ours_step, theirs_step
        if ours_step[2] or ours_step[3]:
            ours.reset()
            theirs.reset()


@pytest.mark.parametrize("game", ["Breakout", "Pong", "Seaquest", "MsPacman"])
def test_rewards_lives_ends_and_frame_numbers_are_equal(game):
    ours = make_env(resolve_env(game, noop_max=0))
    theirs = wrappers.MaxAndSkipEnv(atari(game), skip=4)
    for (_, *a, info), (_, *b, their_info) in play_both(ours, theirs, 500):
        assert a == b
        assert info.items() <= their_info.items()


def test_frames_are_equal_in_breakout_except_at_the_end_of_a_game():
    ours = make_env(AtariSettings(noop_max=0))
    theirs = wrappers.WarpFrame(wrappers.MaxAndSkipEnv(atari(), skip=4))
    equal, at_end = [], []
    for a, b in play_both(ours, theirs, 900):
        (at_end if a[2] else equal).append(np.array_equal(a[0][-1], b[0][..., 0]))
    assert all(equal)
    # The frame in which the game ends is pooled by SB3 and not by ALE: it shows in one game of six.
    assert not all(at_end)


def test_coloured_frames_differ_since_sb3_pools_colours_and_ale_greys():
    ours = make_env(AtariSettings(game="pong", noop_max=0))
    theirs = wrappers.WarpFrame(wrappers.MaxAndSkipEnv(atari("Pong"), skip=4))
    differences = [
        np.abs(a[0][-1].astype(int) - b[0][..., 0]).max() for a, b in play_both(ours, theirs, 300)
    ]
    assert 0 < max(differences) < 40

    grey = wrappers.MaxAndSkipEnv(atari("Pong", obs_type="grayscale"), skip=4)
    for a, b in play_both(ours, grey, 300):
        shrunk = cv2.resize(b[0], (84, 84), interpolation=cv2.INTER_AREA)
        assert np.array_equal(a[0][-1], shrunk)


def test_we_make_0_to_29_noops_and_sb3_1_to_30():
    ours = make_env(AtariSettings(noop_max=30))
    ours.reset(seed=0)
    frames = [ours.reset()[1]["episode_frame_number"] for _ in range(120)]
    assert (min(frames), max(frames)) == (0, 29)
    theirs = wrappers.NoopResetEnv(atari(), noop_max=30)
    theirs.reset(seed=0)
    frames = [theirs.reset()[1]["episode_frame_number"] for _ in range(120)]
    assert (min(frames), max(frames)) == (1, 30)


SB3 = {"protocol": "sb3", "fire_reset": True, "noop_max": 0}


def sb3_stack(game):
    """SB3's own training environment, as make_atari_env makes it, but for the no-ops."""
    env = monitor.Monitor(atari(game))
    return vec_envs.VecFrameStack(
        vec_envs.DummyVecEnv([lambda: wrappers.AtariWrapper(env, noop_max=0)]), 4
    )


@pytest.mark.parametrize(
    ("title", "game", "pixels"),
    [("Breakout", "breakout", True), ("Seaquest", "seaquest", False), ("Pong", "pong", False)],
)
def test_protocol_sb3_presses_fire_as_sb3s_stack_at_every_start_and_after_every_life(
    title, game, pixels
):
    ours = make_vec_env(AtariSettings(game=game, **SB3), seed=0)
    theirs = sb3_stack(title)
    theirs.seed(0)
    a, b = ours.reset(), theirs.reset()
    ends = {"life": 0, "game": 0}
    scores = []
    for action in script(900, ours.action_space.n):
        if pixels:
            assert np.array_equal(a, b.transpose(0, 3, 1, 2))
        a, our_rewards, our_dones, (info,) = ours.step(np.array([action]))
        b, their_rewards, their_dones, (their_info,) = theirs.step([action])
        assert our_rewards == their_rewards
        assert our_dones == their_dones
        # The black frames of a new start are where SB3's are, and nowhere else.
        assert np.array_equal(a.any(axis=(2, 3)), b.any(axis=(1, 2)))
        if our_dones[0]:
            ended = "episode" in info
            assert ended == ("episode" in their_info)
            ends["game" if ended else "life"] += 1
            if ended:
                scores.append((info["episode"]["r"], their_info["episode"]["r"]))
            elif pixels:
                final = their_info["terminal_observation"].transpose(2, 0, 1)
                assert np.array_equal(info["terminal_observation"], final)
    assert ends["game"] > 0
    assert ends["life"] > 0 or game == "pong"
    assert all(our_score == their_score for our_score, their_score in scores)


def test_a_game_under_sb3_is_evaluated_as_sb3s_evaluation_plays_it():
    ours = make_env(AtariSettings(**SB3))
    theirs = sb3_stack("Breakout")
    a, _ = ours.reset(seed=0)
    theirs.seed(0)
    b = theirs.reset()
    score = 0.0
    for action in script(2000, 4):
        assert np.array_equal(a, b[0].transpose(2, 0, 1))
        a, reward, terminated, truncated, _ = ours.step(action)
        b, _, _, (their_info,) = theirs.step([action])
        score += reward
        assert (terminated or truncated) == ("episode" in their_info)
        if terminated or truncated:
            break
    assert terminated
    assert score == their_info["episode"]["r"]


def test_fire_is_pressed_for_whole_steps_and_only_where_a_game_has_it():
    frames = [
        make_env(AtariSettings(game=game, **SB3)).reset(seed=0)[1]["episode_frame_number"]
        for game in ("breakout", "freeway")
    ]
    assert frames == [8, 0]


@pytest.mark.parametrize("training", [True, False])
def test_several_emulators_under_sb3_play_the_games_of_one(training):
    settings = AtariSettings(protocol="sb3", fire_reset=True, sticky_actions=0.25, max_frames=900)
    vec_env = make_vec_env(settings, 3, seed=5, training=training)
    seeds = list(vec_env._seeds)
    vec_env.reset()
    actions = np.random.default_rng(0).integers(4, size=(500, 3))
    results = [vec_env.step(a) for a in actions]
    for index, seed in enumerate(seeds):
        env = make_env(settings)
        env.reset(seed=seed)
        score, games = 0.0, 0
        for step, action in enumerate(actions[:, index].tolist()):
            observation, reward, terminated, truncated, _ = env.step(action)
            score += reward
            observations, _, dones, infos = results[step]
            over = terminated or truncated
            assert over == ("episode" in infos[index])
            assert dones[index] >= over
            if over:
                assert infos[index]["episode"]["r"] == score
                score, games = 0.0, games + 1
                observation, _ = env.reset()
            assert np.array_equal(observations[index], observation)
        assert games > 0


def test_after_a_lost_life_we_go_on_and_sb3_makes_a_noop_step():
    vec_env = make_vec_env(AtariSettings(noop_max=0), seed=0)
    theirs = wrappers.EpisodicLifeEnv(wrappers.MaxAndSkipEnv(atari(), skip=4))
    vec_env.reset()
    theirs.reset(seed=0)
    for action in script(200, 4):
        observations, _, dones, infos = vec_env.step(np.array([action]))
        *_, done, _, info = theirs.step(action)
        assert dones[0] == done
        assert infos[0]["lives"] == info["lives"]
        if done:
            break
    assert done
    assert np.array_equal(infos[0]["terminal_observation"], observations[0])
    _, after = theirs.reset()
    assert after["episode_frame_number"] == info["episode_frame_number"] + 4


def test_our_cap_counts_frames_after_the_noops_and_gymnasiums_all_frames():
    ours = make_env(AtariSettings(game="pong", max_frames=100))
    theirs = wrappers.NoopResetEnv(atari("Pong", max_num_frames_per_episode=100))
    theirs.override_num_noops = 20
    noops = ours.reset(seed=1)[1]["episode_frame_number"]
    assert noops > 0
    for _ in range(25):
        *_, truncated, info = ours.step(0)
    assert truncated
    assert info["episode_frame_number"] == 100 + noops
    theirs.reset()
    steps = [theirs.step(0) for _ in range(80)]
    assert steps[-1][3]
    assert steps[-1][4]["episode_frame_number"] == 100
