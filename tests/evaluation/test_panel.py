import numpy as np
import pytest

from sndqn.evaluation import ValuePanel, enlarge, with_value_panel
from sndqn.evaluation.panel import _GREEDY, _RANDOM, MIN_HEIGHT

ATARI = np.zeros((210, 160, 3), np.uint8)
MINATAR = np.zeros((10, 10, 3), np.uint8)
CARTPOLE = np.zeros((400, 600, 3), np.uint8)


def panel_of(q_values, action, *, frame=ATARI, step=1, episode_return=0.0, scale=(-1.0, 1.0)):
    names = [f"name {k}" for k in range(len(q_values))]
    picture = with_value_panel(
        frame,
        np.array(q_values),
        action,
        names,
        step=step,
        episode_return=episode_return,
        scale=scale,
    )
    return picture[:, enlarge(frame, MIN_HEIGHT).shape[1] :]


def count(panel, colour):
    return int((panel == np.array(colour, np.uint8)).all(axis=2).sum())


@pytest.mark.parametrize(
    ("frame", "shape"),
    [(ATARI, (420, 320, 3)), (MINATAR, (400, 400, 3)), (CARTPOLE, (400, 600, 3))],
)
def test_small_frames_are_enlarged_by_a_whole_factor(frame, shape):
    noise = np.random.default_rng(0).integers(256, size=frame.shape).astype(np.uint8)
    large = enlarge(noise, MIN_HEIGHT)
    factor = large.shape[0] // frame.shape[0]
    assert large.shape == shape
    assert large.dtype == np.uint8
    np.testing.assert_array_equal(large[::factor, ::factor], noise)
    np.testing.assert_array_equal(large[factor - 1 :: factor, factor - 1 :: factor], noise)


@pytest.mark.parametrize("frame", [ATARI, MINATAR, CARTPOLE])
def test_picture_stays_untouched_beside_the_panel(frame):
    frame = np.random.default_rng(0).integers(256, size=frame.shape).astype(np.uint8)
    picture = with_value_panel(
        frame, np.array([0.0, 1.0]), 1, ["a", "b"], step=0, episode_return=0.0, scale=(0.0, 1.0)
    )
    large = enlarge(frame, MIN_HEIGHT)
    np.testing.assert_array_equal(picture[:, : large.shape[1]], large)
    assert picture.dtype == np.uint8
    assert picture.shape[1] > large.shape[1] + 300


def test_the_panels_size_depends_on_nothing_it_shows():
    shapes = {
        panel_of(q_values, action, step=step, episode_return=step * 1e3).shape
        for q_values, action, step in (
            ([0.0, 1.0], 0, 0),
            ([1e9] * 18, 17, 10**7),
            ([np.nan, -np.inf], None, 3),
            ([0.0] * 200, 3, 3),
        )
    }
    assert len(shapes) == 1


def test_greedy_and_random_actions_have_their_own_colours():
    greedy = panel_of([0.1, 0.9], 1)
    random = panel_of([0.9, 0.1], 1)
    none = panel_of([0.9, 0.1], None)
    legend = count(none, _GREEDY)
    assert count(greedy, _GREEDY) > legend + 500
    assert count(greedy, _RANDOM) == count(none, _RANDOM)
    assert count(random, _RANDOM) > count(none, _RANDOM) + 500
    assert count(random, _GREEDY) == legend


def test_bars_grow_with_the_values():
    areas = [count(panel_of([value, 2.0], 0), _RANDOM) for value in (-0.9, 0.0, 0.9)]
    assert areas == sorted(areas)
    assert areas[2] - areas[1] == pytest.approx(areas[1] - areas[0], rel=0.1)


@pytest.mark.parametrize("change", [{"step": 2}, {"episode_return": 1.0}, {"q_values": [0.2, 0.9]}])
def test_step_return_and_numbers_are_shown(change):
    shown = {"q_values": [0.1, 0.9], "action": 1}
    assert not np.array_equal(panel_of(**shown), panel_of(**{**shown, **change}))


def test_the_scale_only_widens_over_an_episode():
    panel = ValuePanel()
    for q_values, scale in (
        ([1.0, 2.0], (1.0, 2.0)),
        ([1.5, 1.6], (1.0, 2.0)),
        ([np.nan, 5.0], (1.0, 5.0)),
        ([-1.0, np.inf], (-1.0, 5.0)),
    ):
        panel.draw(MINATAR, np.array(q_values), 0, step=0, episode_return=0.0)
        assert (panel.low, panel.high) == scale


def test_values_that_are_all_nan_are_drawn_as_such():
    picture = ValuePanel().draw(MINATAR, np.full(3, np.nan), 0, step=0, episode_return=0.0)
    assert picture.shape[0] == MIN_HEIGHT
