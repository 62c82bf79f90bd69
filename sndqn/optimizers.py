"""Optimisers whose step costs what its arithmetic costs."""

import math
import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from sndqn.errors import ConfigError


class Adam(torch.optim.Adam):
    """Adam as one fused call: torch's `Adam(fused=True)` without its bookkeeping at every step.

    State and its names are torch's, so either loads what the other saved. On networks of a few
    thousand weights torch's bookkeeping takes longer than the arithmetic; on large ones the fused
    kernel takes a third of the time of torch's default.

    Args:
        params: As in `torch.optim.Adam`.
        lr: Learning rate.
        betas: Decay rates of the two moments.
        eps: Added to the root of the second moment.
        weight_decay: Factor of the weights added to the gradient.

    Attributes:
        scheduler: A `sndqn.spectral.schedulers.SpectralScheduler` that steers the steps: DivGrad,
            MulEps or DivLR. None by default.

    Source: Kingma and Ba, ICLR 2015 (arXiv 1412.6980).
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        self._lists: dict[int, tuple[list[Tensor], ...]] = {}
        self.scheduler: Any = None
        super().__init__(params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, fused=True)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Makes one step on the parameters that have a gradient."""
        result = None
        if closure is not None:
            with torch.enable_grad():
                result = closure()
        for index, group in enumerate(self.param_groups):
            params = [p for p in group["params"] if p.grad is not None]
            self._step_group(index, group, params, [p.grad for p in params])
        return result

    @torch.no_grad()
    def apply(self, params: list[Any], gradients: list[Tensor], index: int = 0) -> None:
        """Makes one step of a group with these gradients, past `.grad` and the hooks.

        Args:
            params: Parameters of the group; always the same list.
            gradients: One for each.
            index: Of the group.
        """
        self._step_group(index, self.param_groups[index], params, gradients)

    def _step_group(
        self, index: int, group: dict[str, Any], params: list[Tensor], gradients: list[Any]
    ) -> None:
        if not params:
            return
        exp_avgs, exp_avg_sqs, steps = self._moments(index, params)
        for step in set(steps):  # one tensor for all, unless some have had fewer steps
            step.add_(1)
        if self.scheduler is not None and self.scheduler.name == "div_grad":
            factors = self.scheduler.factors(params)
            gradients = list(map(torch.div, gradients, factors))
        elif self.scheduler is not None:
            self._scheduled_step(group, params, gradients, (exp_avgs, exp_avg_sqs, steps))
            return
        torch._fused_adam_(
            params,
            gradients,
            exp_avgs,
            exp_avg_sqs,
            [],
            steps,
            lr=group["lr"],
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            amsgrad=False,
            maximize=False,
        )

    def _scheduled_step(
        self,
        group: dict[str, Any],
        params: list[Tensor],
        gradients: list[Tensor],
        moments: tuple[list[Tensor], ...],
    ) -> None:
        """Makes a step whose ε or learning rate is a tensor of each parameter, which none fuses."""
        exp_avgs, exp_avg_sqs, steps = moments
        beta1, beta2 = group["betas"]
        if group["weight_decay"]:
            decay = group["weight_decay"]
            gradients = list(torch._foreach_add(gradients, params, alpha=decay))
        torch._foreach_lerp_(exp_avgs, gradients, 1 - beta1)
        torch._foreach_mul_(exp_avg_sqs, beta2)
        torch._foreach_addcmul_(exp_avg_sqs, gradients, gradients, 1 - beta2)
        by_eps = self.scheduler.name == "mul_eps"
        for p, m, v, step, factor in zip(
            params, exp_avgs, exp_avg_sqs, steps, self.scheduler.factors(params), strict=True
        ):
            root = (v / _bias_correction(beta2, step)).sqrt_()
            root = root.add_(group["eps"] * factor) if by_eps else root.add_(group["eps"])
            rate = group["lr"] / _bias_correction(beta1, step)
            p.sub_(m / root * (rate if by_eps else rate / factor))

    def _moments(self, index: int, params: list[Tensor]) -> tuple[list[Tensor], ...]:
        """Gives the group's state as lists in the order of the parameters, made where missing."""
        known = self._lists.get(index)
        if known is not None and (known[3] is params or self._same(known[3], params)):
            return known[:3]
        for p in params:
            if not self.state[p]:
                self.state[p] = {
                    "step": torch.zeros((), dtype=torch.float32, device=p.device),
                    "exp_avg": torch.zeros_like(p, memory_format=torch.preserve_format),
                    "exp_avg_sq": torch.zeros_like(p, memory_format=torch.preserve_format),
                }
        states = [self.state[p] for p in params]
        if len({float(state["step"]) for state in states}) == 1:
            for state in states:
                state["step"] = states[0]["step"]
        names = ("exp_avg", "exp_avg_sq", "step")
        lists = tuple([state[name] for state in states] for name in names)
        self._lists[index] = (*lists, params)
        return lists

    @staticmethod
    def _same(known: list[Tensor], params: list[Tensor]) -> bool:
        return len(known) == len(params) and all(map(operator.is_, known, params))

    def state_dict(self) -> dict[str, Any]:
        """Gives the state as torch's Adam has it: each parameter with its own count of steps."""
        result = super().state_dict()
        states = {i: {**s, "step": s["step"].clone()} for i, s in result["state"].items()}
        return {**result, "state": states}

    def __setstate__(self, state: dict[str, Any]) -> None:
        # Also how a state dict is loaded: the lists would hold the old state's tensors.
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self._lists = {}
        self.__dict__.setdefault("scheduler", None)


def _bias_correction(beta: float, step: Tensor) -> Tensor:
    """Gives 1 - β^t without the cancellation of small steps, which costs three digits."""
    return -torch.expm1(step * math.log(beta)) if beta else torch.ones_like(step)


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
        """Updates the running means with the gradients and gives what these are divided by."""
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
        """Gives a running mean of each parameter, zero where there is none yet."""
        for p in params:
            if name not in self.state[p]:
                self.state[p][name] = torch.zeros_like(p, memory_format=torch.preserve_format)
        return [self.state[p][name] for p in params]
