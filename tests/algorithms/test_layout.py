"""A large weight lies input by input while compiled updates run, and nothing else differs."""

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx

import sndqn
from sndqn.algorithms.compilation import CompiledUpdate, compiler_available
from sndqn.algorithms.decompositions import decompositions
from sndqn.algorithms.layout import lay_out
from sndqn.envs import make_vec_env, resolve_env
from sndqn.policies import SNDQNPolicy, minatar_cnn

aten: Any = torch.ops.aten
LARGE = (128, 1024)  # MinAtar's hidden layer


@pytest.fixture(params=[1, 2])
def n_threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def test_large_weights_of_more_inputs_than_outputs_lie_input_by_input(n_threads: int) -> None:
    tensors = [torch.randn(shape) for shape in (LARGE, (1024, 128), (6, 128), (131072,))]
    before = [t.clone() for t in tensors]
    assert lay_out(tensors) == {LARGE}
    assert [t.stride() for t in tensors] == [(1, 128), (128, 1), (128, 1), (1,)]
    for tensor, value in zip(tensors, before, strict=True):
        assert torch.equal(tensor, value)
    memory = tensors[0].data_ptr()
    assert lay_out(tensors) == {LARGE}, "of those that do so already as well"
    assert tensors[0].data_ptr() == memory


def test_inputs_that_threads_cannot_share_evenly_stay() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        assert lay_out([torch.randn(LARGE)]) == frozenset()
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("batch", [8, 16, 32, 200])
def test_a_layers_products_are_the_same_and_its_gradient_lies_as_it_does(
    batch: int, n_threads: int
) -> None:
    n_outputs, n_inputs = LARGE
    weight, x = torch.randn(LARGE), torch.randn(batch, n_inputs)
    grad, few = torch.randn(batch, n_outputs), torch.randn(8, n_outputs)

    def products(weight: torch.Tensor, x: torch.Tensor, grad: torch.Tensor) -> list[torch.Tensor]:
        return [x @ weight.t(), weight @ x.t(), grad @ weight, few @ weight, grad.t() @ x]

    expected = products(weight, x, grad)
    shapes = lay_out([weight])
    graph = make_fx(products, decompositions(shapes))(weight, x, grad)
    found = graph(weight, x, grad)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
    assert found[-1].stride() == (1, n_outputs)


def trained(*, compiled: bool) -> Any:
    env = make_vec_env(resolve_env("MinAtar/Breakout"), 2, seed=0)
    kwargs = {"features_extractor_class": minatar_cnn, "sn_layers": "-2"}
    settings: dict[str, Any] = {"seed": 0, "device": "cpu", "buffer_size": 500}
    model = sndqn.DQN(
        SNDQNPolicy, env, policy_kwargs=kwargs, learning_starts=10**6, compile=False, **settings
    )
    model.learn(200)
    model._compiles_next = compiled
    model.train(4, batch_size=32)
    assert isinstance(model._compiled, CompiledUpdate) == compiled
    return model


def updated(model: Any) -> list[torch.Tensor]:
    """Makes four eager updates on the same samples each time; gives the weights."""
    model._compiled = None
    np.random.seed(0)
    model.train(4, batch_size=32)
    return [p.detach() for p in model.q_net.parameters()]


@pytest.mark.skipif(not compiler_available(), reason="no C++ compiler")
def test_eager_updates_go_on_from_compiled_ones_and_from_saved_files(tmp_path: Path) -> None:
    """Moments that lay otherwise than their weights would be taken for one another's."""
    model = trained(compiled=True)
    weights = model.q_net.features_extractor.linear[0].weight
    (moments,) = model.moments()
    assert {t.stride() for t in (*moments.exp_avgs, weights) if t.shape == LARGE} == {(1, 128)}
    model.save(tmp_path / "model.zip")
    loaded = sndqn.DQN.load(tmp_path / "model.zip", env=model.env)
    assert loaded.q_net.features_extractor.linear[0].weight.stride() == (1024, 1)
    loaded.replay_buffer = copy.deepcopy(model.replay_buffer)
    loaded._setup_learn(100, None)
    expected, found = updated(model), updated(loaded)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)
