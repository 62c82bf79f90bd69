"""Looking at a network without a trace: its Q-values, and what its layers make of observations.

The networks may be sndqn's, Stable-Baselines3's or sb3-contrib's: a features extractor and a head.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from stable_baselines3.common.preprocessing import preprocess_obs
from torch import Tensor, nn

from sndqn.networks.noisy import remove_noise
from sndqn.networks.q_network import ActionValues, Observation
from sndqn.spectral import weight_layers

# Observations that pass a network at once. More take longer each: their maps leave the caches.
_AT_ONCE = 256


@contextmanager
def observing(*networks: nn.Module) -> Iterator[None]:
    """Runs a block with networks in evaluation mode and without noise, then undoes both.

    Every buffer is afterwards as before to the bit: a layer that looks after its σ in evaluation
    mode finds it where it was.
    """
    modes = [(module, module.training) for network in networks for module in network.modules()]
    buffers = [buffer for network in networks for buffer in network.buffers()]
    kept = [buffer.clone() for buffer in buffers]
    try:
        for network in networks:
            network.train(False)
            remove_noise(network)
        yield
    finally:
        for module, training in modes:
            module.training = training
        with torch.no_grad():
            for buffer, value in zip(buffers, kept, strict=True):
                buffer.copy_(value)


def output_network(policy: Any, target: bool = False) -> Any:
    """Returns the online or the target network of a policy; sb3-contrib's has names of its own."""
    name = "quantile_net" if hasattr(policy, "quantile_net") else "q_net"
    return getattr(policy, name + "_target" * target)


def prepared(network: Any, observations: Observation) -> Any:
    """Makes floats of observations, as the network does: images in [0, 1]."""
    space, normalize = network.observation_space, network.normalize_images
    return preprocess_obs(observations, space, normalize_images=normalize)


def values_of_prepared(network: Any, observations: Any) -> Tensor:
    """Maps prepared observations to Q-values, (batch, actions)."""
    if isinstance(network, ActionValues):
        values: Tensor = network.q_net.q_values(network.outputs_of(observations))
        return values
    features = network.features_extractor(observations)
    if not hasattr(network, "quantile_net"):
        return network.q_net(features)  # type: ignore[no-any-return]
    quantiles: Tensor = network.quantile_net(features)
    return quantiles.view(len(features), network.n_quantiles, -1).mean(dim=1)


def pieces(observations: Observation) -> Iterator[Any]:
    """Gives observations in parts of some hundred."""
    if not isinstance(observations, dict):
        yield from torch.split(observations, _AT_ONCE)
        return
    for parts in zip(*(torch.split(o, _AT_ONCE) for o in observations.values()), strict=True):
        yield dict(zip(observations, parts, strict=True))


@torch.no_grad()
def action_values(network: Any, observations: Observation) -> Tensor:
    """Computes a network's Q-values, (batch, actions), and leaves it as it is."""
    with observing(network):
        return torch.cat(
            [values_of_prepared(network, prepared(network, part)) for part in pieces(observations)]
        )


class Look(NamedTuple):
    """What a network makes of observations.

    Attributes:
        q_values: Shape (batch, actions).
        features: What the output layer is given, (batch, d): of two streams side by side, of
            several fractions of an implicit quantile head their mean.
        activity: Mean |h| of each unit after its activation, (units,) in float64, by the name of
            the weight layer before that. A convolution's units are its channels.
    """

    q_values: Tensor
    features: Tensor
    activity: dict[str, Tensor]


@torch.no_grad()
def look(network: Any, observations: Observation) -> Look:
    """Passes observations through a network and notes what its layers make of them."""
    recorder = _Recorder(network)
    with observing(network), recorder.recording():
        values = []
        for part in pieces(observations):
            values.append(values_of_prepared(network, prepared(network, part)))
            recorder.end_part(len(values[-1]))
    q_values = torch.cat(values)
    activity = {name: total / len(q_values) for name, total in recorder.totals.items()}
    return Look(q_values, torch.cat(recorder.features), activity)


class _Recorder:
    """Notes, by hooks, what activations put out and output layers take in.

    Attributes:
        totals: The sum over observations of each unit's mean |h|, by weight layer.
        features: The inputs of the output layers, part by part.
    """

    def __init__(self, network: nn.Module) -> None:
        self.network = network
        self.layers = {entry.layer: entry for entry in weight_layers(network)}
        self.totals: dict[str, Tensor] = {}
        self.features: list[Tensor] = []
        self._newest: Any = None
        self._means: dict[str, Tensor] = {}
        self._inputs: list[Tensor] = []

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Runs a block in which passes of the network are noted."""
        hooks = []
        for module in self.network.modules():
            if module in self.layers:
                hooks.append(module.register_forward_pre_hook(self._at_layer))
            elif type(module).__module__ == nn.ReLU.__module__:
                hooks.append(module.register_forward_hook(self._at_activation))
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def _at_layer(self, layer: Any, inputs: tuple[Tensor, ...]) -> None:
        self._newest = self.layers[layer]
        if self._newest.index == -1:
            (x,) = inputs
            self._inputs.append(x.mean(dim=1) if x.ndim == 3 else x)

    def _at_activation(self, _: nn.Module, __: Any, output: Tensor) -> None:
        if self._newest is None:
            return
        units = 1 if isinstance(self._newest.layer, nn.Conv2d) else output.ndim - 1
        others = [axis for axis in range(output.ndim) if axis != units]
        n = output.numel() // output.shape[units]
        total = torch.linalg.vector_norm(output, 1, dim=others)
        self._means[self._newest.name] = total.cpu().double() / n

    def end_part(self, n: int) -> None:
        """Adds what was noted of a pass of n observations."""
        self.features.append(torch.cat(self._inputs, dim=1))
        for name, mean in self._means.items():
            self.totals[name] = self.totals.get(name, 0) + n * mean
        self._newest, self._means, self._inputs = None, {}, []
