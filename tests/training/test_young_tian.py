"""The preset young-tian makes the updates of MinAtar's own DQN, rebuilt here of torch's parts."""

from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import nn
from torch.nn import functional as F

from sndqn.training.build import build
from sndqn.training.config_files import layered_config
from sndqn.training.plan import plan

STEP_SIZE = 2**-13


def network() -> nn.Sequential:
    """Makes the network of Young and Tian for Asterix: 4 channels, 6 actions."""
    hidden = [nn.Conv2d(4, 16, kernel_size=3), nn.ReLU(), nn.Flatten()]
    return nn.Sequential(*hidden, nn.Linear(1024, 128), nn.ReLU(), nn.Linear(128, 6))


@torch.no_grad()
def copy_weights(to: nn.Module, of: nn.Module) -> None:
    for own, given in zip(to.parameters(), of.parameters(), strict=True):
        own.copy_(given)


def test_each_update_is_that_of_torchs_rmsprop_and_huber_loss(tmp_path: Path) -> None:
    flags = {"env": "MinAtar/Asterix", "learning_rate": STEP_SIZE, "runs_dir": str(tmp_path)}
    flags |= {"learning_starts": 64, "target_update_interval": 100, "total_timesteps": 400}
    flags |= {"exploration_warmup_timesteps": 0}
    config = layered_config({**flags, "compile": "never", "threads": 1}, "young-tian")
    (state,) = build(plan(config), Console(quiet=True))
    model: Any = state.model
    online, target = network(), network()
    # What their code asks of torch: centred, decay 0.95, 0.01 beside the root.
    optimizer = torch.optim.RMSprop(
        online.parameters(), lr=STEP_SIZE, alpha=0.95, eps=0.01, centered=True
    )
    drawn: list[Any] = []
    differences: list[float] = []
    train, draw = model.train, model.draw_samples

    def keep_samples(n_samples: int) -> Any:
        drawn.append(draw(n_samples))
        return drawn[-1]

    def train_and_compare(gradient_steps: int, batch_size: int) -> None:
        copy_weights(online, model.q_net)
        copy_weights(target, model.q_net_target)
        train(gradient_steps, batch_size)
        batch = drawn.pop()
        q = online(batch.observations.float()).gather(1, batch.actions.long())
        following = target(batch.next_observations.float()).max(dim=1, keepdim=True).values
        goal = batch.rewards + 0.99 * (1 - batch.dones) * following.detach()
        optimizer.zero_grad()
        F.smooth_l1_loss(q, goal).backward()
        optimizer.step()
        pairs = zip(online.parameters(), model.q_net.parameters(), strict=True)
        differences.append(max(float((a - b).detach().abs().max()) for a, b in pairs))

    model.draw_samples, model.train = keep_samples, train_and_compare
    model.learn(config.total_timesteps)
    assert len(differences) == config.total_timesteps - config.learning_starts
    assert max(differences) < 1e-3 * STEP_SIZE
