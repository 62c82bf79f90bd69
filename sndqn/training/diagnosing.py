"""Diagnostics of a training: what is measured of its networks every so often, and on which states.

Nothing that is learnt depends on them: they draw from generators of their own, work on copies where
something moves, and leave every buffer as it was.
"""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from sndqn.algorithms import ValueBasedAlgorithm
from sndqn.diagnostics import (
    Played,
    action_swaps,
    action_values,
    certified_bound,
    dormant_shares,
    eps_ratios,
    gap_after_sync,
    layer_sigma,
    look,
    played_out,
    q_bias,
    ranks,
    slopes,
    target_gap,
    try_updates,
)
from sndqn.diagnostics.sigma import raw_weight
from sndqn.errors import RunFolderError
from sndqn.files import sha256_of, write_bytes
from sndqn.replay import Batch, FrameRing
from sndqn.spectral import weight_layers
from sndqn.training.callbacks import StatefulCallback

# States of the probe: four times as many as the Nature CNN has features, for the ranks. And those
# of them for what takes several passes, or a backward one.
N_STATES, N_FEW = 2048, 256
_N_UPDATES = 10
# The newest transitions, whose returns Q-values are compared with.
_RECENT = 10_000

Level = Literal["none", "basic", "all"]
Values = dict[str, float]
Layers = dict[str, dict[str, float]]


def can_diagnose(level: Level, model: ValueBasedAlgorithm) -> bool:
    """Returns whether a training is to be measured, and can be: Dict observations cannot."""
    return level != "none" and isinstance(model.replay_buffer, FrameRing)


class DiagnosticsCallback(StatefulCallback):
    """Measures the networks every so many steps, on states of the replay that it draws once.

    A measurement is made just before an update of the target network, the first one after it is
    due: the gap to the target is the largest then, and comparable from time to time.

    Args:
        every_timesteps: Steps between measurements.
        tries_updates: Whether to measure what takes more than looking: slopes, updates, returns.
        file: Where the states are kept, an .npz file.
        seed: Of the states, and of what is drawn for each measurement.
    """

    def __init__(self, every_timesteps: int, tries_updates: bool, file: Path, seed: int) -> None:
        super().__init__()
        self.every_timesteps = every_timesteps
        self.tries_updates = tries_updates
        self.file = file
        self.seed = seed
        self.next_at = every_timesteps
        self.states: Tensor | None = None
        self.digest: str | None = None

    def _on_step(self) -> bool:
        model: Any = self.model
        every = max(model.target_update_interval // model.n_envs, 1)
        sync_follows = (model._n_calls + 1) % every == 0
        if self.num_timesteps >= self.next_at and sync_follows and model._n_updates:
            self.next_at = (self.num_timesteps // self.every_timesteps + 1) * self.every_timesteps
            self._measure(model)
        return True

    def _measure(self, model: Any) -> None:
        if self.states is None:
            self.states = self._draw(model.replay_buffer)
        values, layers = look_at(model, self.states)
        if self.tries_updates:
            drawn = np.random.default_rng((self.seed, self.num_timesteps))
            more, of_layers = try_out(model, self.states, drawn)
            values |= more
            layers = {name: row | of_layers.get(name, {}) for name, row in layers.items()}
        writer: Any = self.logger.output_formats[0]
        writer.write_diagnostics(self.num_timesteps, values, layers)

    def _draw(self, replay: FrameRing) -> Tensor:
        """Draws the states and keeps them in their file."""
        total = replay.size() * replay.n_envs
        draw = np.random.default_rng((self.seed, 0))
        places = draw.choice(total, min(N_STATES, total), replace=False)
        states: Tensor = replay.gather(places // replay.n_envs, places % replay.n_envs).observations
        states = states.contiguous()
        content = io.BytesIO()
        np.savez_compressed(content, states=states.cpu().numpy(), timesteps=self.num_timesteps)
        write_bytes(self.file, content.getvalue())
        self.digest = sha256_of(content.getvalue())
        return states

    def get_state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Returns when the next measurement is due, and the digest of the states' file."""
        return {}, {"next_at": self.next_at, "states": self.digest}

    def set_state(self, tensors: Mapping[str, Tensor], data: Mapping[str, Any]) -> None:
        """Takes what `get_state` returned, and reads the states from their file.

        Raises:
            RunFolderError: It is missing, or not as it was.
        """
        self.next_at, self.digest = data["next_at"], data["states"]
        if self.digest is None:
            return
        content = self.file.read_bytes() if self.file.is_file() else b""
        if sha256_of(content) != self.digest:
            raise RunFolderError(
                f"{self.file}: expected the states that diagnostics are measured on, found "
                f"{'other content' if content else 'none'}: put back the file, or train in a new "
                "folder"
            )
        states = np.load(io.BytesIO(content), allow_pickle=False)["states"]
        self.states = torch.from_numpy(states).to(self.model.device)


def look_at(model: ValueBasedAlgorithm, states: Tensor) -> tuple[Values, Layers]:
    """Measures what takes a look at networks and optimiser: `--diagnostics basic`."""
    online, target = model.q_net, model.q_net_target
    few = states[:N_FEW]
    seen = look(online, states)
    q_values = seen.q_values.cpu().double()
    highest = q_values.topk(2, dim=1).values
    of_target = action_values(target, few)
    layers: Layers = layer_sigma(online)
    bound = certified_bound(online, {n: row["sigma_effective"] for n, row in layers.items()})
    dormant, dormant_layers = dormant_shares(seen.activity)
    weights = [(entry.name, raw_weight(entry.layer)) for entry in weight_layers(online)]
    ratios = eps_ratios(model.policy.optimizer, weights)
    values = {
        "states": float(len(states)),
        "q_mean": float(q_values.mean()),
        "q_max": float(q_values.max()),
        "action_gap": float((highest[:, 0] - highest[:, 1]).mean()),
        "target_gap": target_gap(seen.q_values[: len(few)], of_target),
        "target_gap_after_sync": gap_after_sync(model, few),
        **({} if bound is None else {"lipschitz_bound": bound}),
        **ranks(seen.features),
        **dormant,
    }
    if model.tau == 1:  # the target is the network of the last sync
        changed = of_target.argmax(dim=1) != seen.q_values[: len(few)].argmax(dim=1)
        values["churn_target_period"] = float(changed.float().mean())
    for found in (dormant_layers, ratios):
        for name, row in found.items():
            layers[name] |= row
    return values, layers


def try_out(
    model: ValueBasedAlgorithm, states: Tensor, draw: np.random.Generator
) -> tuple[Values, Layers]:
    """Measures what takes more than a look: `--diagnostics all` adds it."""
    few = states[:N_FEW]
    steep = slopes(model.q_net, few).cpu().double()
    values = {"slope_mean": float(steep.mean()), "slope_max": float(steep.max())}
    batches = [_batch(model, draw) for _ in range(_N_UPDATES)]
    churn, layers = try_updates(model.update, batches, few, int(draw.integers(2**31)))
    for name, row in layer_sigma(model.q_net_target).items():
        own = {key.replace("sigma", "target_sigma"): value for key, value in row.items()}
        layers.setdefault(name, {}).update(own)
    return {**values, **churn, **_against_returns(model, draw)}, layers


def _batch(model: ValueBasedAlgorithm, draw: np.random.Generator) -> Batch:
    """Draws a batch uniformly, whatever the priorities, and the random numbers of the loss."""
    replay, n = _replay(model), model.batch_size
    batch = replay.gather(
        draw.integers(replay.size(), size=n), draw.integers(replay.n_envs, size=n)
    )
    n_random = model.update.settings.loss.n_random
    if n_random:
        numbers = torch.from_numpy(draw.random((n, n_random), dtype=np.float32))
        batch = batch._replace(random=numbers.to(model.device))
    return batch


def _against_returns(model: ValueBasedAlgorithm, draw: np.random.Generator) -> Values:
    """Compares Q-values with the returns that followed in the newest training episodes."""
    replay = _replay(model)
    n_steps = min(replay.size(), max(_RECENT // replay.n_envs, 1))
    steps = (replay.pos - n_steps + np.arange(n_steps)) % replay.buffer_size
    actions = replay.actions[steps]
    played = Played(replay.rewards[steps], actions, replay.dones[steps], replay.timeouts[steps])
    returns = played_out(played, model.gamma)
    known = np.argwhere(~np.isnan(returns))
    chosen = known[draw.permutation(len(known))[:N_FEW]]
    if not len(chosen):
        return {"action_swaps": action_swaps(played)}
    rows, envs = chosen.T
    q_values = action_values(model.q_net, replay.gather(steps[rows], envs).observations)
    taken = torch.from_numpy(actions[rows, envs].astype(np.int64)).to(q_values.device)
    values = q_values.gather(1, taken[:, None]).squeeze(1).cpu().numpy()
    return {"action_swaps": action_swaps(played), **q_bias(values, returns[rows, envs])}


def _replay(model: ValueBasedAlgorithm) -> FrameRing:
    assert isinstance(model.replay_buffer, FrameRing)
    return model.replay_buffer
