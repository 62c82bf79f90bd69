"""A planned network has the shapes of the real one, and planning does not import a compiler."""

import itertools
import subprocess
import sys

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor, nn

from sndqn.agents.shapes import ShapesAlone
from sndqn.networks import NetworkSpec, SpectralSettings, make_q_network
from sndqn.networks.factory import zero_observation
from sndqn.networks.heads import HEADS
from sndqn.networks.spec import ACTIVATIONS

IMAGE = spaces.Box(0, 255, (4, 84, 84), np.uint8)
VECTOR = spaces.Box(-1, 1, (4,))
OBSERVATIONS = {
    "mlp": VECTOR,
    "nature_cnn": IMAGE,
    "der_cnn": IMAGE,
    "minatar_cnn": spaces.Box(0, 1, (4, 10, 10), np.float32),
    "impala_cnn": IMAGE,
    "combined": spaces.Dict({"pixels": IMAGE, "speed": VECTOR, "place": spaces.Discrete(5)}),
}


def output_shapes(network: nn.Module, space: spaces.Space) -> list[tuple[str, tuple[int, ...]]]:
    found: list[tuple[str, tuple[int, ...]]] = []
    for name, layer in network.named_modules():

        def note(layer: nn.Module, inputs: object, output: object, name: str = name) -> None:
            if isinstance(output, Tensor):
                found.append((name, tuple(output.shape)))

        layer.register_forward_hook(note)
    found.append(("", tuple(network.outputs(zero_observation(space)).shape)))
    return found


@pytest.mark.parametrize("torso", OBSERVATIONS)
@pytest.mark.parametrize("head", HEADS)
def test_a_planned_network_has_every_shape_of_the_real_one(torso: str, head: str) -> None:
    space, actions = OBSERVATIONS[torso], spaces.Discrete(3)
    activations = list(ACTIVATIONS) if torso == "mlp" else ["relu"]
    for dueling, activation in itertools.product((False, True), activations):
        spec = NetworkSpec(
            torso,
            head=head,
            dueling=dueling,
            net_arch=(16, 8),
            activation=activation,
            spectral=SpectralSettings("none"),
        )
        with torch.device("meta"), ShapesAlone():
            plan = make_q_network(space, actions, spec)
            planned = output_shapes(plan, space)
        real = make_q_network(space, actions, spec)
        assert all(tensor.is_meta for tensor in plan.state_dict().values())
        assert planned == output_shapes(real, space)


def test_reading_an_agent_imports_no_compiler() -> None:
    code = (
        "import sys; from sndqn.agents import find_agent, load_agent; "
        "load_agent(find_agent('MinAtar/Breakout/sn').file); "
        "sys.exit('torch._dynamo' in sys.modules or 'sympy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
