import numpy as np
import pytest

from sndqn.evaluation import ValuePanel, enlarge
from sndqn.evaluation.panel import MIN_HEIGHT, _number
from sndqn.evaluation.pen import GREEDY, RANDOM

ATARI = np.zeros((210, 160, 3), np.uint8)
MINATAR = np.zeros((10, 10, 3), np.uint8)
CARTPOLE = np.zeros((400, 600, 3), np.uint8)


def panel_of(q_values, action, *, frame=ATARI, step=1, episode_return=0.0):
    panel = ValuePanel([f"name {k}" for k in range(len(q_values))])
    picture = panel.draw(
        frame, np.array(q_values), action, step=step, episode_return=episode_return
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
    panel = ValuePanel(["a", "b"])
    picture = panel.draw(frame, np.array([0.0, 1.0]), 1, step=0, episode_return=0.0)
    large = enlarge(frame, MIN_HEIGHT)
    np.testing.assert_array_equal(picture[:, : large.shape[1]], large)
    assert picture.dtype == np.uint8
    assert picture.shape[1] > large.shape[1] + 300
    np.testing.assert_array_equal(panel.beside(frame), picture)


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
    greedy = panel_of([0.1, 0.6, 0.9], 2)
    random = panel_of([0.9, 0.1, 0.6], 2)
    none = panel_of([0.9, 0.1, 0.6], None)
    legend = count(none, GREEDY)
    assert count(greedy, GREEDY) > legend + 500
    assert count(greedy, RANDOM) == count(none, RANDOM)
    assert count(random, RANDOM) > count(none, RANDOM) + 500
    assert count(random, GREEDY) == legend


@pytest.mark.parametrize("level", [0.0, -100.0, 1e4])
@pytest.mark.parametrize("spread", [1e-2, 1.0, 50.0])
def test_bars_show_differences_whatever_all_values_are_worth(level, spread):
    areas = [
        count(panel_of([level + share * spread, level, level + spread], 0), RANDOM)
        for share in (0.1, 0.5, 0.9)
    ]
    assert areas == sorted(areas)
    assert areas[2] - areas[1] == pytest.approx(areas[1] - areas[0], rel=0.1)


@pytest.mark.parametrize(
    ("value", "largest", "scale", "written"),
    [
        (3.1234, 3.13, 0.01, "3.123"),
        (12.34567, 12.34567, 0.002, "12.3457"),
        (-232.51, 130.4, 362.0, "-232.5"),
        (20000.4, 20000.4, 30000.0, "20000"),
        (0.0, 0.0, 0.0, "0"),
        (np.nan, np.nan, 0.0, "nan"),
        (1.5e7, 1.5e7, 1.0, "1.5e+07"),
    ],
)
def test_numbers_have_the_decimals_that_tell_them_apart(value, largest, scale, written):
    assert _number(value, largest, scale) == written


@pytest.mark.parametrize("change", [{"step": 2}, {"episode_return": 1.0}, {"q_values": [0.2, 0.9]}])
def test_step_return_and_numbers_are_shown(change):
    shown = {"q_values": [0.1, 0.9], "action": 1}
    assert not np.array_equal(panel_of(**shown), panel_of(**{**shown, **change}))


def test_the_scale_widens_at_once_and_narrows_slowly():
    panel, scales = ValuePanel(), []
    for spread in [1.0, 4.0, *[1.0] * 200]:
        q_values = np.array([7.0, 7.0 + spread, np.nan])
        panel.draw(MINATAR, q_values, 0, step=0, episode_return=0.0)
        scales.append(panel.scale)
    assert scales[:3] == [1.0, 4.0, 0.98 * 4.0]
    assert scales[36] == pytest.approx(2.0, rel=0.02)
    assert scales[-1] == 1.0


def test_values_that_are_all_nan_are_drawn_as_such():
    picture = ValuePanel().draw(MINATAR, np.full(3, np.nan), 0, step=0, episode_return=0.0)
    assert picture.shape[0] == MIN_HEIGHT
