"""RMSprop as DQN has it."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from sndqn.errors import ConfigError


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
        weight_decay: Factor of the weights added to the gradient, as in torch.

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
        weight_decay: float = 0.0,
    ) -> None:
        if not lr >= 0:
            raise ConfigError(f"lr: expected 0 or more, found {lr}")
        if not 0 <= decay < 1:
            raise ConfigError(f"decay: expected 0 or more and less than 1, found {decay}")
        if not eps > 0:
            raise ConfigError(f"eps: expected a positive number, found {eps}")
        if not weight_decay >= 0:
            raise ConfigError(f"weight_decay: expected 0 or more, found {weight_decay}")
        defaults = {"lr": lr, "decay": decay, "eps": eps, "centered": centered}
        defaults |= {"eps_inside_root": eps_inside_root, "weight_decay": weight_decay}
        super().__init__(params, defaults)

    def __setstate__(self, state: dict[str, Any]) -> None:
        # Also how a state dict is loaded: one may have been saved without weight decay.
        super().__setstate__(state)
        for group in self.param_groups:
            group.setdefault("weight_decay", 0.0)

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
                if group["weight_decay"]:
                    decay = group["weight_decay"]
                    gradients = list(torch._foreach_add(gradients, params, alpha=decay))
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
