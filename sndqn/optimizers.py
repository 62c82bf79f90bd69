"""Optimisers whose step costs what its arithmetic costs."""

import math
import operator
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.optim.adam import adam as torch_adam

from sndqn.errors import ConfigError


class Moments(NamedTuple):
    """What Adam remembers of a list of parameters: one tensor of each kind for each of them."""

    exp_avgs: list[Tensor]
    exp_avg_sqs: list[Tensor]
    steps: list[Tensor]


_FLAGS = (
    "amsgrad",
    "foreach",
    "maximize",
    "capturable",
    "differentiable",
    "decoupled_weight_decay",
)
_TORCH_OPTIONS = (*_FLAGS, "fused", "lr", "weight_decay", "eps")
_flags_of = operator.itemgetter(*_FLAGS)


def _is_plain(group: dict[str, Any]) -> bool:
    """Returns whether `torch._fused_adam_` does all that a group of parameters asks for."""
    plain = not any(_flags_of(group)) and group["fused"] is not False
    return plain and not isinstance(group["lr"], Tensor) and isinstance(group["betas"][0], float)


def _strides_differ(a: Tensor, b: Tensor) -> bool:
    return a.stride() != b.stride()


def _in_layout_of(like: Tensor, value: Tensor) -> Tensor:
    """Returns a value in the memory layout of another tensor, copied if it has another one."""
    return torch.empty_like(like).copy_(value) if _strides_differ(like, value) else value


class Adam(torch.optim.Adam):
    """Adam as one fused call: torch's `Adam(fused=True)` without its bookkeeping at every step.

    State and its names are torch's, so either loads what the other saved. On networks of a few
    thousand weights torch's bookkeeping takes longer than the arithmetic; on large ones the fused
    kernel takes a third of the time of torch's default. Where a keyword, or a learning rate that is
    a tensor, asks for more than that kernel does, the step is torch's.

    Args:
        params: As in `torch.optim.Adam`.
        lr: Learning rate.
        betas: Decay rates of the two moments.
        eps: Added to the root of the second moment.
        weight_decay: Factor of the weights added to the gradient.
        amsgrad: As in `torch.optim.Adam`; so are those below.
        foreach: Whether torch's steps over lists are made.
        maximize: Whether the gradient is followed upwards.
        capturable: Whether torch's steps can be captured.
        differentiable: Whether autograd follows torch's steps.
        fused: False asks for torch's step, which is not one call.
        decoupled_weight_decay: Whether weights decay as in AdamW.

    Attributes:
        scheduler: A `sndqn.spectral.schedulers.SpectralScheduler` that steers the steps: DivGrad,
            MulEps or DivLR. None by default.
        learning_rates: Scalar tensors, one a group, read instead of the groups' numbers, so that a
            recorded step sees a learning rate that changes. None by default.

    Source: Kingma and Ba, ICLR 2015 (arXiv 1412.6980).
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        amsgrad: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        decoupled_weight_decay: bool = False,
    ) -> None:
        self._moments: dict[int, tuple[list[Tensor], Moments]] = {}
        self.scheduler: Any = None
        self.learning_rates: list[Tensor] | None = None
        flags: Any = {
            "amsgrad": amsgrad,
            "foreach": foreach,
            "maximize": maximize,
            "capturable": capturable,
            "differentiable": differentiable,
            "decoupled_weight_decay": decoupled_weight_decay,
        }
        if fused is None and not any(flags.values()):
            fused = True
        super().__init__(
            params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, fused=fused, **flags
        )
        self._step_supports_amp_scaling = False  # a gradient scaler unscales before the step

    @property
    def makes_own_steps(self) -> bool:
        """Whether all groups' steps are the one call, which can be traced and steered."""
        return all(map(_is_plain, self.param_groups))

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Makes one step on the parameters that have a gradient."""
        result = None
        if closure is not None:
            with torch.enable_grad():
                result = closure()
        for index, group in enumerate(self.param_groups):
            if not _is_plain(group):
                self._torch_step(index, group)
                continue
            params = [p for p in group["params"] if p.grad is not None]
            self._step_group(index, group, params, [p.grad for p in params])
        return result

    def _torch_step(self, index: int, group: dict[str, Any]) -> None:
        """Makes torch's step on a group, past the hooks that a call of its `step` would run."""
        if self._moments.pop(index, None) is not None:  # torch counts steps parameter by parameter
            for p in group["params"]:
                if self.state[p]:
                    self.state[p]["step"] = self.state[p]["step"].clone()
        lists: Any = [[] for _ in range(6)]
        with torch.set_grad_enabled(group["differentiable"]):
            has_complex = self._init_group(group, *lists)  # type: ignore[no-untyped-call]
            options: Any = {name: group[name] for name in _TORCH_OPTIONS}
            options |= dict(zip(("beta1", "beta2"), group["betas"], strict=True))
            options["has_complex"] = has_complex
            torch_adam(*lists, **options)

    @torch.no_grad()
    def apply(
        self,
        params: list[Any],
        gradients: list[Tensor],
        index: int = 0,
        sizes: Tensor | None = None,
    ) -> None:
        """Makes one step of a group with these gradients, past `.grad` and the hooks.

        Args:
            params: Parameters of the group; always the same list.
            gradients: One for each.
            index: Of the group.
            sizes: What `advance` gave for the step, as a tensor. With it the step is made of plain
                operations, which can be traced: the same to rounding.
        """
        self._step_group(index, self.param_groups[index], params, gradients, sizes)

    def advance(self, index: int, params: list[Any], n_steps: int = 1) -> list[tuple[float, float]]:
        """Counts steps t of a group; returns for each its size η / (1 - β₁ᵗ), and 1 / (1 - β₂ᵗ).

        For parameters on the CPU that have had equally many steps.
        """
        # NumPy's view and Python's numbers, for several steps at once: one at a time they took 20
        # to 40 µs each between CartPole's updates, which take 120 to 200.
        count = self.moments(index, params).steps[0].numpy()
        before, group = float(count), self.param_groups[index]
        count += n_steps
        lr = group["lr"]
        return [self._size(group, lr, before + i + 1, math.expm1) for i in range(n_steps)]

    def _step_group(
        self,
        index: int,
        group: dict[str, Any],
        params: list[Tensor],
        gradients: list[Any],
        sizes: Tensor | None = None,
    ) -> None:
        if not params:
            return
        moments = self.moments(index, params)
        steered = "none" if self.scheduler is None else self.scheduler.name
        if steered == "div_grad":
            gradients = list(map(torch.div, gradients, self.scheduler.factors(params)))
        if sizes is not None:
            self._plain_step(group, params, gradients, moments, [sizes.unbind()] * len(params))
            return
        for step in set(moments.steps):  # one tensor for all, unless some have had fewer steps
            step.add_(1)
        lr = group["lr"] if self.learning_rates is None else self.learning_rates[index]
        if steered in ("mul_eps", "div_lr"):
            each = [self._size(group, lr, step, torch.expm1) for step in moments.steps]
            self._plain_step(group, params, gradients, moments, each)
            return
        # It reads all four of a parameter's tensors in the order of memory, whatever their strides.
        if any(map(_strides_differ, params, moments.exp_avgs)):  # another layout now
            self._moments.pop(index)
            moments = self.moments(index, params)
        torch._fused_adam_(
            params,
            list(map(_in_layout_of, params, gradients)),
            moments.exp_avgs,
            moments.exp_avg_sqs,
            [],
            moments.steps,
            lr=lr,
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            amsgrad=False,
            maximize=False,
        )

    def _plain_step(
        self,
        group: dict[str, Any],
        params: list[Tensor],
        gradients: list[Tensor],
        moments: Moments,
        sizes: list[Any],
    ) -> None:
        """Makes a step by plain operations, whose ε or size is a tensor of each parameter."""
        beta1, beta2 = group["betas"]
        if group["weight_decay"]:
            decay = group["weight_decay"]
            gradients = list(torch._foreach_add(gradients, params, alpha=decay))
        torch._foreach_lerp_(moments.exp_avgs, gradients, 1 - beta1)
        torch._foreach_mul_(moments.exp_avg_sqs, beta2)
        torch._foreach_addcmul_(moments.exp_avg_sqs, gradients, gradients, 1 - beta2)
        name = None if self.scheduler is None else self.scheduler.name
        factors = [1.0] * len(params)
        if name in ("mul_eps", "div_lr"):
            factors = self.scheduler.factors(params)
        for p, m, v, (size, correction), factor in zip(
            params, moments.exp_avgs, moments.exp_avg_sqs, sizes, factors, strict=True
        ):
            eps = group["eps"] * factor if name == "mul_eps" else group["eps"]
            root = (v * correction).sqrt_().add_(eps)
            p.sub_(m / root * (size / factor if name == "div_lr" else size))

    @staticmethod
    def _size(
        group: dict[str, Any], lr: Any, step: Any, expm1: Callable[[Any], Any]
    ) -> tuple[Any, Any]:
        """Returns η / (1 - β₁ᵗ), the size of step t, and 1 / (1 - β₂ᵗ): tensors where t is one."""

        def correction(beta: float) -> Any:
            # Not 1 - β^t, which cancels: three digits are lost in the first steps.
            return 1 / -expm1(step * math.log(beta)) if beta else 1.0

        beta1, beta2 = group["betas"]
        return lr * correction(beta1), correction(beta2)

    def moments(self, index: int, params: list[Tensor]) -> Moments:
        """Returns the state of a group's parameters, made where missing.

        The same object each time, until another state is loaded.
        """
        known = self._moments.get(index)
        if known is not None and (known[0] is params or self._same(known[0], params)):
            return known[1]
        for p in params:
            if not self.state[p]:
                self.state[p] = {
                    "step": torch.zeros((), dtype=torch.float32, device=p.device),
                    "exp_avg": torch.zeros_like(p, memory_format=torch.preserve_format),
                    "exp_avg_sq": torch.zeros_like(p, memory_format=torch.preserve_format),
                }
            for name in ("exp_avg", "exp_avg_sq"):  # a loaded state's layout may differ
                self.state[p][name] = _in_layout_of(p, self.state[p][name])
        states = [self.state[p] for p in params]
        if len({float(state["step"]) for state in states}) == 1:
            for state in states:
                state["step"] = states[0]["step"]
        names = ("exp_avg", "exp_avg_sq", "step")
        found = Moments(*([state[name] for state in states] for name in names))
        self._moments[index] = (params, found)
        return found

    @staticmethod
    def _same(known: list[Tensor], params: list[Tensor]) -> bool:
        return len(known) == len(params) and all(map(operator.is_, known, params))

    def state_dict(self) -> dict[str, Any]:
        """Returns the state as torch's Adam has it: each parameter with its own count of steps."""
        result = super().state_dict()
        states = {i: {**s, "step": s["step"].clone()} for i, s in result["state"].items()}
        return {**result, "state": states}

    def __setstate__(self, state: dict[str, Any]) -> None:
        # Also how a state dict is loaded: the lists would hold the old state's tensors.
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self._moments = {}
        self.__dict__.setdefault("scheduler", None)
        self.__dict__.setdefault("learning_rates", None)


class RMSprop(torch.optim.Optimizer):
    """RMSprop as DQN has it: centred, without momentum, its ε outside the root or inside.

    With running means g² and ḡ of the squared gradient and of the gradient g, the variance is
    v = g² - ḡ², or g² alone if not centred, and a step takes lr · g / (√v + ε) from the weights,
    or lr · g / √(v + ε) with ε inside the root. Wherever v is small the latter acts like the former
    with √ε for ε: 1e-5 inside damps as 0.003 outside, so that ε belongs to its place.

    g² and ḡ start at 0, as in torch, Keras and optax. TensorFlow 1's `RMSPropOptimizer` starts g²
    at 1: after t steps it is larger by decay^t, so that its first steps are shorter.

    Args:
        params: As in `torch.optim.RMSprop`.
        lr: Learning rate; that of Mnih et al. by default.
        decay: Decay rate of both means; theirs by default.
        eps: ε; Dopamine has 1e-5 and dqn_zoo 0.01 / 32², both inside the root. The SN-DQN paper's
            code has 0.01 outside.
        centered: Whether the variance, or else the mean square, is under the root.
        eps_inside_root: Whether ε is added before the root is taken, as in TensorFlow's.

    Raises:
        ConfigError: A number out of range.

    Source: Tieleman and Hinton, Coursera 2012, lecture 6.5; centred, ε inside the root: Graves
    (arXiv 1308.0850), equations 38 to 41; in DQN: Mnih et al., Nature 2015.
    """

    def __init__(
        self,
        params: Any,
        lr: float = 2.5e-4,
        decay: float = 0.95,
        eps: float = 1e-5,
        centered: bool = True,
        eps_inside_root: bool = False,
    ) -> None:
        if not lr >= 0:
            raise ConfigError(f"lr: expected 0 or more, found {lr}")
        if not 0 <= decay < 1:
            raise ConfigError(f"decay: expected 0 or more and less than 1, found {decay}")
        if not eps > 0:
            raise ConfigError(f"eps: expected a positive number, found {eps}")
        defaults = {"lr": lr, "decay": decay, "eps": eps, "centered": centered}
        super().__init__(params, {**defaults, "eps_inside_root": eps_inside_root})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Makes one step on the parameters that have a gradient."""
        result = None
        if closure is not None:
            with torch.enable_grad():
                result = closure()
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            if params:
                gradients = [p.grad for p in params]
                denominators = self._denominators(group, params, gradients)
                torch._foreach_addcdiv_(params, gradients, denominators, value=-group["lr"])
        return result

    def _denominators(
        self, group: dict[str, Any], params: list[Tensor], gradients: list[Tensor]
    ) -> list[Tensor]:
        """Updates the running means with the gradients; returns what these are divided by."""
        decay, eps = group["decay"], group["eps"]
        square_avgs = self._means("square_avg", params)
        torch._foreach_mul_(square_avgs, decay)
        torch._foreach_addcmul_(square_avgs, gradients, gradients, value=1 - decay)
        if group["centered"]:
            grad_avgs = self._means("grad_avg", params)
            torch._foreach_lerp_(grad_avgs, gradients, 1 - decay)
            result = list(torch._foreach_addcmul(square_avgs, grad_avgs, grad_avgs, value=-1))
            # The difference of two nearly equal numbers may come out negative.
            torch._foreach_clamp_min_(result, 0.0)
        else:
            result = [mean.clone() for mean in square_avgs]
        if group["eps_inside_root"]:
            torch._foreach_add_(result, eps)
            torch._foreach_sqrt_(result)
        else:
            torch._foreach_sqrt_(result)
            torch._foreach_add_(result, eps)
        return result

    def _means(self, name: str, params: list[Tensor]) -> list[Tensor]:
        """Returns a running mean of each parameter, zero where there is none yet."""
        for p in params:
            if name not in self.state[p]:
                self.state[p][name] = torch.zeros_like(p, memory_format=torch.preserve_format)
        return [self.state[p][name] for p in params]
