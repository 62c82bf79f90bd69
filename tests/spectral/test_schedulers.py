"""Spectral schedulers against steps and outputs worked out from the norms themselves."""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor, nn

from sndqn.errors import ConfigError
from sndqn.networks import make_q_network
from sndqn.optimizers import Adam
from sndqn.spectral import SpectralLayer, normalize_layers, remove_spectral_norm, spectral_norm
from sndqn.spectral.schedulers import SpectralScheduler

VECTOR = spaces.Box(-1, 1, (5,), np.float32)
ACTIONS = spaces.Discrete(3)
# Of the first layer and the last; the middle one is not tracked. With the first σ is above its
# bound and with the last below.
BOUNDS = {0: 0.2, 2: 1.5}
LARGE_EPS = {"lr": 0.01, "eps": 0.1}


def network(dtype: torch.dtype = torch.float64) -> nn.Sequential:
    """Layers of few enough units that the power iteration follows all singular values: exactly."""
    torch.manual_seed(0)
    result = nn.Sequential(nn.Linear(5, 7), nn.Linear(7, 3), nn.Linear(3, 2)).to(dtype)
    for i, bound in BOUNDS.items():
        result[i] = spectral_norm(result[i], bound=bound, mode="track")
    return result


def gradients(model: nn.Module, step: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(step)
    return [torch.randn(p.shape, generator=generator).to(p) for p in model.parameters()]


def refine(model: nn.Module) -> None:
    for layer in model.modules():
        if isinstance(layer, SpectralLayer):
            layer.refine()


def factors_by_hand(model: nn.Module, form: str, one_sided: bool) -> list[float]:
    """R of each parameter, by singular value decompositions."""
    own = {}
    for i, bound in BOUNDS.items():
        weight = model.get_parameter(f"{i}.weight")
        ratio = float(torch.linalg.matrix_norm(weight.detach(), 2)) / bound
        own[f"{i}.weight"] = max(ratio, 1.0) if one_sided else ratio
    product = own["0.weight"] * own["2.weight"]
    names = [name for name, _ in model.named_parameters()]
    return [product if form == "product" else own.get(name, 1.0) for name in names]


def torchs_steps(
    name: str, form: str, one_sided: bool, n_steps: int, kwargs: dict[str, Any]
) -> nn.Module:
    """torch's Adam, told by hand: gradients divided, or a rate of its own for each parameter."""
    model = network()
    groups = [{"params": [p]} for p in model.parameters()]
    optimizer = torch.optim.Adam(groups, **kwargs)
    for step in range(n_steps):
        factors = factors_by_hand(model, form, one_sided)
        for group, g, factor in zip(
            optimizer.param_groups, gradients(model, step), factors, strict=True
        ):
            (p,) = group["params"]
            p.grad = g / factor if name == "div_grad" else g
            if name == "div_lr":
                group["lr"] = kwargs["lr"] / factor
        optimizer.step()
    return model


def our_steps(
    name: Any,
    form: Any,
    one_sided: bool,
    n_steps: int,
    kwargs: dict[str, Any],
    freeze: bool = False,
) -> nn.Module:
    """Our Adam, steered by the tracked norms as they are now, or as they were at first."""
    model = network()
    optimizer = Adam(model.parameters(), **kwargs)
    if name != "none":
        optimizer.scheduler = SpectralScheduler(model, name, form, one_sided)
    for step in range(n_steps):
        for p, g in zip(model.parameters(), gradients(model, step), strict=True):
            p.grad = g
        optimizer.step()
        if not freeze:
            refine(model)
    return model


def distance(one: nn.Module, other: nn.Module) -> float:
    """The largest difference, against how far training went."""
    pairs = zip(one.parameters(), other.parameters(), network().parameters(), strict=True)
    return max(float((a - b).detach().norm() / (a - w).detach().norm()) for a, b, w in pairs)


class TestTracking:
    @pytest.mark.parametrize("kind", ["linear", "operator", "kernel"])
    def test_it_changes_no_output_and_no_gradient_to_the_bit(self, kind: Any) -> None:
        torch.manual_seed(0)
        if kind == "linear":
            plain: nn.Module = nn.Linear(12, 7)
            x = torch.randn(5, 12, requires_grad=True)
        else:
            plain = nn.Conv2d(3, 6, 3, stride=2, padding=1)
            x = torch.randn(5, 3, 9, 10, requires_grad=True)
        kwargs = {} if kind == "linear" else {"input_size": (9, 10), "conv_norm": kind}
        layer = spectral_norm(copy.deepcopy(plain), mode="track", bound=0.1, **kwargs)
        for _ in range(30):
            results = []
            for module in (plain, layer):
                y = module(x)
                grads = torch.autograd.grad(y.square().sum(), [x, *module.parameters()])
                with torch.no_grad():
                    for p, g in zip(module.parameters(), grads[1:], strict=True):
                        p.sub_(1e-4 * g).add_(1e-3)
                results.append([y, *grads])
            for a, b in zip(*results, strict=True):
                assert torch.equal(a, b)
        layer.refine()
        exact = layer.exact_sigma(effective=False)
        assert float(layer.running_sigma) == pytest.approx(exact, rel=1e-3)
        assert layer.exact_sigma() == exact, "it acts with the weight's own norm"

    def test_a_tracked_network_is_the_plain_one(self) -> None:
        torch.manual_seed(0)
        plain = make_q_network(VECTOR, ACTIONS, sn_layers="none")
        torch.manual_seed(0)
        tracked = make_q_network(VECTOR, ACTIONS, sn_layers="all", sn_mode="track", sn_bound=0.1)
        assert tracked.scheduler is None
        observations = torch.randn(32, 5)
        assert torch.equal(plain(observations), tracked(observations))
        assert sum(isinstance(m, SpectralLayer) for m in tracked.modules()) == 3

    def test_factors_are_the_norms_over_their_bounds(self) -> None:
        for one_sided in (False, True):
            model = network()
            scheduler = SpectralScheduler(model, "div_grad", "product", one_sided)
            params = list(model.parameters())
            by_layer = SpectralScheduler(model, "div_grad", "layer", one_sided)
            for found, form in ((scheduler, "product"), (by_layer, "layer")):
                expected = factors_by_hand(model, form, one_sided)
                assert [float(f) for f in found.factors(params)] == pytest.approx(expected)
                assert not any(f.requires_grad for f in found.factors(params))
        ratios = factors_by_hand(model, "layer", False)
        assert ratios[0] > 1 > ratios[4] != 0, "or one side were never seen"

    @pytest.mark.parametrize("bound", [0.5, "initial"])
    def test_a_zero_weight_has_the_factor_one(self, bound: Any) -> None:
        model = nn.Sequential(spectral_norm(nn.Linear(4, 3), mode="track", bound=bound))
        with torch.no_grad():
            model[0].weight.zero_()
        refine(model)
        assert float(SpectralScheduler(model, "div_grad").product()) == 1


def relu_network(bias: bool = False, **settings: Any) -> nn.Sequential:
    torch.manual_seed(1)
    result = nn.Sequential(
        nn.Linear(5, 7, bias=bias), nn.ReLU(), nn.Linear(7, 6, bias=bias), nn.ReLU(),
        nn.Linear(6, 3, bias=bias),
    ).double()  # fmt: skip
    normalize_layers(result, ["0", "2", "4"], **settings)
    return result


def outputs_and_gradients(
    model: nn.Module, x: Tensor, divide: Callable[[Tensor], Tensor] = lambda y: y
) -> tuple[Tensor, list[Tensor]]:
    y = divide(model(x))
    weights = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view_as(y)
    return y, list(torch.autograd.grad((weights * y).sum(), list(model.parameters())))


class TestDivOut:
    X = torch.randn(8, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    @pytest.mark.parametrize("bound", [0.4, 3.0])
    @pytest.mark.parametrize("one_sided", [False, True])
    def test_the_product_without_biases_is_normalisation_of_all_layers_at_constant_norms(
        self, one_sided: bool, bound: float
    ) -> None:
        mode = "shrink" if one_sided else "normalize"
        held = relu_network(mode=mode, bound=bound, grad_through_norm=False)
        tracked = relu_network(mode="track", bound=bound)
        scheduler = SpectralScheduler(tracked, "div_out", "product", one_sided)
        y, grads = outputs_and_gradients(held, self.X)
        y_out, grads_out = outputs_and_gradients(tracked, self.X, scheduler.divide_output)
        torch.testing.assert_close(y_out, y)
        for a, b in zip(grads_out, grads, strict=True):
            torch.testing.assert_close(a, b)

    def test_the_gradient_of_normalisation_lacks_only_the_part_that_stretches(self) -> None:
        # d(W/σ) has the gradient G - <G, W> u vᵀ / σ, with G that at constant σ.
        held = relu_network(mode="normalize", bound=0.4)
        tracked = relu_network(mode="track", bound=0.4)
        scheduler = SpectralScheduler(tracked, "div_out")
        _, grads = outputs_and_gradients(held, self.X)
        _, grads_out = outputs_and_gradients(tracked, self.X, scheduler.divide_output)
        for weight, g, g_out in zip(tracked.parameters(), grads, grads_out, strict=True):
            u, s, v = torch.linalg.svd(weight.detach())
            stretching = (g_out * weight.detach()).sum() * torch.outer(u[:, 0], v[0]) / s[0]
            torch.testing.assert_close(g, g_out - stretching)
            assert float(stretching.norm()) > 0.01 * float(g.norm())

    def test_with_biases_the_product_is_another_function_than_normalisation(self) -> None:
        held = relu_network(bias=True, mode="normalize", bound=0.4)
        tracked = relu_network(bias=True, mode="track", bound=0.4)
        divided = SpectralScheduler(tracked, "div_out").divide_output(tracked(self.X))
        assert float((divided - held(self.X)).detach().abs().max()) > 0.01

    @pytest.mark.parametrize("one_sided", [False, True])
    def test_the_layer_form_divides_each_output_bias_and_all_by_hand(self, one_sided: bool) -> None:
        model = network()
        first, middle, last = (getattr(model, str(i)) for i in range(3))
        plain = [(m.weight.detach(), m.bias.detach()) for m in (first, middle, last)]
        factors = factors_by_hand(model, "layer", one_sided)
        scheduler = SpectralScheduler(model, "div_out", "layer", one_sided)
        z = nn.functional.linear(self.X, *plain[0]) / factors[0]
        z = nn.functional.linear(z, *plain[1])
        z = nn.functional.linear(z, *plain[2]) / factors[4]
        torch.testing.assert_close(model(self.X), z)
        assert torch.equal(scheduler.divide_output(z), z), "and the network's is not divided again"

    def test_the_layer_form_of_a_convolution_by_hand(self) -> None:
        torch.manual_seed(0)
        plain, x = nn.Conv2d(2, 3, 3), torch.randn(4, 2, 8, 8)
        layer = spectral_norm(plain, mode="track", bound=0.2, input_size=(8, 8))
        SpectralScheduler(nn.Sequential(layer), "div_out", "layer")
        expected = plain(x) * 0.2 / layer.exact_sigma(effective=False)
        torch.testing.assert_close(layer.eval()(x), expected, rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize("form", ["product", "layer"])
    def test_the_norms_are_constants_to_gradients(self, form: Any) -> None:
        model = nn.Sequential(spectral_norm(nn.Linear(5, 3), mode="track", bound=0.2)).double()
        refine(model)
        scheduler = SpectralScheduler(model, "div_out", form)
        factor = scheduler.product()
        _, (weight, bias) = outputs_and_gradients(model, self.X, scheduler.divide_output)
        plain = nn.Linear(5, 3).double()
        _, (plain_weight, plain_bias) = outputs_and_gradients(plain, self.X)
        torch.testing.assert_close(weight, plain_weight / factor)
        torch.testing.assert_close(bias, plain_bias / factor)

    @pytest.mark.parametrize(
        ("head", "n"), [("linear", ()), ("categorical", (51,)), ("implicit_quantile", (32,))]
    )
    def test_a_q_network_divides_its_outputs_by_the_product(self, head: Any, n: Any) -> None:
        torch.manual_seed(0)
        plain = make_q_network(VECTOR, ACTIONS, head=head, sn_layers="none").eval()
        torch.manual_seed(0)
        divided = make_q_network(
            VECTOR, ACTIONS, head=head, sn_layers="-1,-2", sn_mode="track", sn_scheduler="div_out"
        ).eval()
        norms = [torch.linalg.matrix_norm(p.detach(), 2) for p in plain.parameters() if p.ndim == 2]
        x = torch.randn(4, 5)
        found = divided.outputs(x)
        assert found.shape == (4, 3, *n)
        expected = plain.outputs(x) / (norms[-1] * norms[-2])
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5)
        torch.testing.assert_close(divided(x), divided.q_net.q_values(found))

    def test_removing_the_layer_form_leaves_plain_layers_that_compute_the_same(self) -> None:
        model = network().eval()
        SpectralScheduler(model, "div_out", "layer")
        expected, sigma = model(self.X), model[0].exact_sigma()
        assert sigma == pytest.approx(BOUNDS[0])
        remove_spectral_norm(model)
        assert type(model[0]) is nn.Linear
        torch.testing.assert_close(model(self.X), expected)


SETTINGS = [
    {"lr": 0.01, "eps": 0.1},
    {"lr": 0.003, "eps": 1e-3, "betas": (0.5, 0.9), "weight_decay": 0.1},
    {"lr": 0.01, "eps": 0.1, "betas": (0.0, 0.99)},
]


@pytest.mark.parametrize("kwargs", SETTINGS)
@pytest.mark.parametrize("one_sided", [False, True])
@pytest.mark.parametrize("form", ["product", "layer"])
@pytest.mark.parametrize("name", ["div_grad", "div_lr"])
def test_steps_are_torchs_with_gradients_or_rates_divided_by_hand(
    name: str, form: str, one_sided: bool, kwargs: dict[str, Any]
) -> None:
    ours = our_steps(name, form, one_sided, 30, kwargs)
    assert distance(ours, torchs_steps(name, form, one_sided, 30, kwargs)) < 1e-5
    assert distance(ours, our_steps("none", form, one_sided, 30, kwargs)) > 0.01


def mul_eps_by_numpy(form: str, one_sided: bool, n_steps: int, kwargs: dict[str, Any]) -> nn.Module:
    model = network()
    lr, eps, decay = kwargs["lr"], kwargs["eps"], kwargs.get("weight_decay", 0.0)
    beta1, beta2 = kwargs.get("betas", (0.9, 0.999))
    m = [np.zeros(p.shape) for p in model.parameters()]
    v = [np.zeros(p.shape) for p in model.parameters()]
    for t in range(1, n_steps + 1):
        factors = factors_by_hand(model, form, one_sided)
        for i, (p, drawn) in enumerate(
            zip(model.parameters(), gradients(model, t - 1), strict=True)
        ):
            g = drawn.numpy() + decay * p.detach().numpy()
            m[i] = beta1 * m[i] + (1 - beta1) * g
            v[i] = beta2 * v[i] + (1 - beta2) * g**2
            m_hat, v_hat = m[i] / (1 - beta1**t), v[i] / (1 - beta2**t)
            step = lr * m_hat / (np.sqrt(v_hat) + eps * factors[i])
            p.data.sub_(torch.from_numpy(step))
    return model


@pytest.mark.parametrize("kwargs", SETTINGS)
@pytest.mark.parametrize("one_sided", [False, True])
@pytest.mark.parametrize("form", ["product", "layer"])
def test_mul_eps_is_adam_written_out_with_epsilon_multiplied(
    form: str, one_sided: bool, kwargs: dict[str, Any]
) -> None:
    ours = our_steps("mul_eps", form, one_sided, 30, kwargs)
    assert distance(ours, mul_eps_by_numpy(form, one_sided, 30, kwargs)) < 1e-6
    plain = our_steps("none", form, one_sided, 30, kwargs)
    assert distance(ours, plain) > (0.01 if kwargs["eps"] > 0.01 else 1e-5)


@pytest.mark.parametrize("name", ["mul_eps", "div_lr"])
def test_at_a_factor_of_one_a_scheduled_step_is_the_plain_one(name: str) -> None:
    ours, theirs = network(), network()
    for layer in (ours[0], ours[2]):
        layer.bound.copy_(layer.running_sigma)
    ours_adam, adam = Adam(ours.parameters(), lr=0.1), Adam(theirs.parameters(), lr=0.1)
    ours_adam.scheduler = SpectralScheduler(ours, name)  # type: ignore[arg-type]
    for step in range(5):
        for model, optimizer in ((ours, ours_adam), (theirs, adam)):
            for p, g in zip(model.parameters(), gradients(model, step), strict=True):
                p.grad = g
            optimizer.step()
    assert distance(ours, theirs) < 1e-6


@pytest.mark.parametrize("form", ["product", "layer"])
def test_under_adam_and_constant_norms_div_grad_is_mul_eps_and_not_div_lr(form: str) -> None:
    # (m / R) / (√v / R + ε) = m / (√v + R ε), from the first step on where R never changed.
    div_grad = our_steps("div_grad", form, False, 200, LARGE_EPS, freeze=True)
    mul_eps = our_steps("mul_eps", form, False, 200, LARGE_EPS, freeze=True)
    div_lr = our_steps("div_lr", form, False, 200, LARGE_EPS, freeze=True)
    plain = our_steps("none", form, False, 200, LARGE_EPS)
    assert distance(div_grad, mul_eps) < 1e-5
    assert distance(div_grad, plain) > 0.01
    assert distance(div_grad, div_lr) > 0.01


@pytest.mark.parametrize("form", ["product", "layer"])
def test_without_an_epsilon_div_grad_and_mul_eps_are_plain_adam(form: str) -> None:
    kwargs = {"lr": 0.01, "eps": 1e-30}
    plain = our_steps("none", form, False, 200, kwargs)
    for name in ("div_grad", "mul_eps"):
        assert distance(plain, our_steps(name, form, False, 200, kwargs, freeze=True)) < 1e-5
    assert distance(plain, our_steps("mul_eps", form, False, 200, kwargs)) < 1e-5
    assert distance(plain, our_steps("div_lr", form, False, 200, kwargs, freeze=True)) > 0.01


def test_an_epsilon_of_torchs_default_makes_div_grad_next_to_nothing_at_constant_norms() -> None:
    plain = our_steps("none", "product", False, 200, {"lr": 0.01})
    found = our_steps("div_grad", "product", False, 200, {"lr": 0.01}, freeze=True)
    assert distance(plain, found) < 1e-5


class TestRefusals:
    @pytest.mark.parametrize("mode", ["normalize", "shrink", None])
    def test_a_network_without_tracked_layers(self, mode: Any) -> None:
        layer: nn.Module = nn.Linear(3, 2)
        if mode is not None:
            layer = spectral_norm(layer, mode=mode)
        with pytest.raises(ConfigError, match="expected layers to track, found none"):
            SpectralScheduler(nn.Sequential(layer), "div_grad")

    def test_a_selection_of_no_layers(self) -> None:
        with pytest.raises(ConfigError, match="expected layers to track, found none"):
            make_q_network(
                VECTOR, ACTIONS, sn_layers="none", sn_mode="track", sn_scheduler="div_out"
            )

    @pytest.mark.parametrize("mode", ["normalize", "shrink"])
    @pytest.mark.parametrize("name", ["div_out", "div_grad", "mul_eps", "div_lr"])
    def test_a_scheduler_of_constrained_layers(self, name: str, mode: str) -> None:
        with pytest.raises(ConfigError, match=f'sn_mode "track", found "{mode}"'):
            make_q_network(VECTOR, ACTIONS, sn_mode=mode, sn_scheduler=name)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (("div_eps",), "expected one of div_out, div_grad, mul_eps, div_lr, found 'div_eps'"),
            (("none",), "expected one of div_out"),
            (("div_out", "sum"), 'expected "product" or "layer", found \'sum\''),
        ],
    )
    def test_unknown_names_and_forms(self, arguments: Any, message: str) -> None:
        with pytest.raises(ConfigError, match=message):
            SpectralScheduler(network(), *arguments)
