"""A training says how long it will take, where that is long."""

import pytest
from stable_baselines3.common.callbacks import BaseCallback, CallbackList

import sndqn
from sndqn.console import roughly
from sndqn.training import pace


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (20, "half a minute"),
        (70, "a minute"),
        (130, "2 minutes"),
        (1334, "20 minutes"),
        (3590, "an hour"),
        (5000, "1.5 hours"),
        (9 * 3600 + 700, "9 hours"),
        (20.4 * 3600, "20 hours"),
        (47 * 3600, "2 days"),
        (9.4 * 86400, "9 days"),
    ],
)
def test_a_duration_is_said_no_more_exactly_than_it_is_known(seconds: float, words: str) -> None:
    assert roughly(seconds) == words


class StopOnceSaid(BaseCallback):
    def __init__(self, said: list[str], most: int) -> None:
        super().__init__()
        self.said, self.most = said, most

    def _on_step(self) -> bool:
        return not self.said and self.num_timesteps < self.most


@pytest.mark.parametrize("total", [10**9, 10_000])
def test_the_estimate_is_the_steps_left_at_the_measured_pace(
    total: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pace, "_SECONDS", 0.2)
    said: list[str] = []
    estimate = pace.EstimateCallback(total, said.append)
    settings = {"learning_starts": 100, "buffer_size": 1000, "compile": False, "device": "cpu"}
    model = sndqn.DQN("SNMlpPolicy", "CartPole-v1", **settings)
    stop = StopOnceSaid(said, 20_000 if total > 10_000 else 1_000)
    model.learn(total, CallbackList([estimate, stop]))
    assert estimate.measured or not said
    if total == 10_000:  # seconds: nothing to say
        assert said == []
        return
    (line,) = said
    rate = estimate.steps / estimate.seconds
    left = (total - estimate.num_timesteps) / rate
    assert line.startswith(f"About {roughly(left)} to go")
    assert f"{rate:,.0f} steps/s while it learns" in line
