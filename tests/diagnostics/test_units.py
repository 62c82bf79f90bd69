"""Dormant units: counted in a loop, and in a network whose dead units are known."""

import numpy as np
import torch
from gymnasium import spaces

from sndqn.diagnostics.networks import look
from sndqn.diagnostics.units import THRESHOLDS, dormant_shares
from sndqn.networks import make_q_network


def test_the_shares_are_those_of_a_loop_over_units() -> None:
    draw = np.random.default_rng(0)
    activity = {name: draw.exponential(size=n) ** 3 for name, n in (("a", 40), ("b", 64))}
    activity["a"][:5] = 0.0
    shares, layers = dormant_shares({n: torch.from_numpy(a) for n, a in activity.items()})
    for tau in THRESHOLDS:
        counts = {}
        for name, units in activity.items():
            mean = sum(units) / len(units)
            counts[name] = sum(1 for unit in units if unit / (mean + 1e-9) <= tau)
            assert layers[name][f"dormant_{tau:g}"] == counts[name] / len(units)
        assert shares[f"dormant_{tau:g}"] == sum(counts.values()) / 104
    assert layers["a"]["dormant_0"] == 5 / 40
    assert layers["a"]["dormant_0.025"] < layers["a"]["dormant_0.1"]


def test_units_that_never_fire_are_found_in_a_network() -> None:
    torch.manual_seed(0)
    space = spaces.Box(0, 1, (2, 8, 8), np.bool_)
    network = make_q_network(space, spaces.Discrete(3), sn_layers="none")
    torso = network.features_extractor
    with torch.no_grad():
        torso.cnn[0].bias[:4] = -100.0  # 4 of 16 channels
        torso.linear[0].bias[:32] = -100.0  # 32 of 128 units
    seen = look(network, torch.ones(9, 2, 8, 8, dtype=torch.bool))
    shares, layers = dormant_shares(seen.activity)
    assert layers["features_extractor.cnn.0"]["dormant_0"] >= 4 / 16
    assert layers["features_extractor.linear.0"]["dormant_0"] >= 32 / 128
    dead = sum(int((a == 0).sum()) for a in seen.activity.values())
    assert shares["dormant_0"] == dead / (16 + 128)


def test_a_dead_layer_is_dormant_and_nothing_is_no_number() -> None:
    shares, layers = dormant_shares({"dead": torch.zeros(3).double()})
    assert set(shares.values()) == {1.0}
    assert layers["dead"] == shares
    assert dormant_shares({}) == ({}, {})
