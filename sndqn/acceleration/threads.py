"""How many threads an update runs on: one where more gain nothing, and while others use the cores.

Threads of one update wait for one another many times. Where another process has one of the cores,
each wait takes as long as the system's turns do, and two threads can be slower than one by far.
"""

import statistics
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

import torch
from stable_baselines3.common.callbacks import BaseCallback
from torch import Tensor

from sndqn.networks.factory import zero_observation
from sndqn.spectral import weight_layers

# Multiply-adds of an update from which several threads gain, by a sixth for the 16 million of
# MinAtar's network. CartPole's makes 0.4 million, the Nature CNN 900 million.
WORK_WORTH_THREADS = 1e7


def work_of_update(model: Any) -> float:
    """Counts the multiply-adds of an update's forward and backward pass, roughly."""
    network = model.q_net
    forward = 0.0

    def count(layer: Any, _: object, output: Tensor) -> None:
        nonlocal forward
        forward += output.numel() * layer.weight[0].numel()

    hooks = [entry.layer.register_forward_hook(count) for entry in weight_layers(network)]
    training = network.training
    try:
        with torch.no_grad():
            network.train(False)(_on(model.device, zero_observation(model.observation_space)))
    finally:
        network.train(training)
        for hook in hooks:
            hook.remove()
    batch_size: int = model.batch_size
    return 3 * forward * batch_size


def _on(device: torch.device, observation: Any) -> Any:
    if isinstance(observation, dict):
        return {key: part.to(device) for key, part in observation.items()}
    return observation.to(device)


def choose_threads(models: Iterable[Any]) -> None:
    """Sets torch's threads to one if that is best for the training of some models.

    It is where no model's updates gain by more; for others they stay as they are, torch's default.
    """
    if all(work_of_update(model) < WORK_WORTH_THREADS for model in models):
        torch.set_num_threads(1)


class ThreadsCallback(BaseCallback):
    """Steps back to one thread while blocks of steps take less time so, and returns afterwards.

    At first, whenever blocks take longer than they did, and from time to time on one thread, it
    tries the other number for half a second, and keeps the faster.

    Args:
        say: Says a line, the first time it steps back.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        super().__init__()
        self._say: Callable[[str], None] | None = say
        self._all = torch.get_num_threads()
        self._times: deque[float] = deque(maxlen=400)
        self._began = self._last = 0.0
        self._usual = float("inf")  # of a block on all threads
        self._before: float | None = None  # of a block before the other number was tried
        self._wait = 1.0

    def _on_step(self) -> bool:
        return True

    def _on_rollout_start(self) -> None:
        now = time.perf_counter()
        if self.model._n_updates == 0:  # nothing that threads would share
            self._began = self._last = now
            return
        self._times.append(now - self._last)
        self._last = now
        seconds = now - self._began
        if self._before is not None:
            if (seconds > 0.5 and len(self._times) >= 10) or seconds > 5:
                self._judge()
        elif seconds > self._wait and len(self._times) >= 10:
            self._look()

    def _look(self) -> None:
        """Tries the other number of threads where that may be faster."""
        median = statistics.median(self._times)
        on_all = torch.get_num_threads() == self._all
        first = self._usual == float("inf")
        if on_all:
            self._usual = min(self._usual, median)
        if first or not on_all or median > 1.3 * self._usual:
            self._before = median
            self._turn(1 if on_all else self._all)
        else:
            self._start()

    def _judge(self) -> None:
        """Keeps the number that was tried if it is faster, or returns to the other."""
        assert self._before is not None
        tried = torch.get_num_threads()
        faster = statistics.median(self._times) < 0.9 * self._before
        self._before = None
        if faster and tried == 1 and self._say is not None:
            self._say(
                "Others use the cores: training goes on with one thread while that is faster "
                "(--threads N fixes the number, and with it the last bits of the results)"
            )
            self._say = None
        other = self._all if tried == 1 else 1
        self._turn(tried if faster else other)
        # On one thread, all are tried again after half a minute; on all, blocks are timed on.
        self._wait = 30.0 if torch.get_num_threads() == 1 else 2.0

    def _turn(self, n_threads: int) -> None:
        torch.set_num_threads(n_threads)
        self._start()

    def _start(self) -> None:
        self._times.clear()
        self._began = time.perf_counter()

    def _on_training_end(self) -> None:
        torch.set_num_threads(self._all)
