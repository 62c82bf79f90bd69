"""Adam whose step costs what its arithmetic costs, and which spectral schedulers steer."""

import math
import operator
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.optim.adam import adam as torch_adam


class Moments(NamedTuple):
    """What Adam remembers of a list of parameters: one tensor of each kind for each of them."""

    exp_avgs: list[Tensor]
    exp_avg_sqs: list[Tensor]
    steps: list[Tensor]


_FLAGS = ("amsgrad", "foreach", "maximize", "capturable", "differentiable")
_TORCH_OPTIONS = (*_FLAGS, "decoupled_weight_decay", "fused", "lr", "weight_decay", "eps")
_flags_of = operator.itemgetter(*_FLAGS)


def _is_plain(group: dict[str, Any]) -> bool:
    """Returns whether torch's fused kernels do all that a group of parameters asks for."""
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
        weight_decay: Factor of the weights added to the gradient, or where it is decoupled, times
            the learning rate, taken from the weights.
        amsgrad: As in `torch.optim.Adam`; so are those below.
        foreach: Whether torch's steps over lists are made.
        maximize: Whether the gradient is followed upwards.
        capturable: Whether torch's steps can be captured.
        differentiable: Whether autograd follows torch's steps.
        fused: False asks for torch's step, which is not one call.
        decoupled_weight_decay: Whether weights decay as in AdamW (Loshchilov and Hutter, ICLR 2019,
            arXiv 1711.05101).

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
        }
        if fused is None and not any(flags.values()):
            fused = True
        flags["decoupled_weight_decay"] = decoupled_weight_decay
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

    def advance(
        self, index: int, params: list[Any], n_steps: int = 1
    ) -> list[tuple[float, float, float]]:
        """Counts steps t of a group; returns for each η / (1 - β₁ᵗ), its size, 1 / (1 - β₂ᵗ) and η.

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
        decoupled = group["decoupled_weight_decay"]
        (torch._fused_adamw_ if decoupled else torch._fused_adam_)(
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
        decay, decoupled = group["weight_decay"], group["decoupled_weight_decay"]
        if decay and not decoupled:
            gradients = list(torch._foreach_add(gradients, params, alpha=decay))
        torch._foreach_lerp_(moments.exp_avgs, gradients, 1 - beta1)
        torch._foreach_mul_(moments.exp_avg_sqs, beta2)
        torch._foreach_addcmul_(moments.exp_avg_sqs, gradients, gradients, 1 - beta2)
        name = None if self.scheduler is None else self.scheduler.name
        factors = [1.0] * len(params)
        if name in ("mul_eps", "div_lr"):
            factors = self.scheduler.factors(params)
        for p, m, v, (size, correction, lr), factor in zip(
            params, moments.exp_avgs, moments.exp_avg_sqs, sizes, factors, strict=True
        ):
            eps = group["eps"] * factor if name == "mul_eps" else group["eps"]
            if name == "div_lr":
                size, lr = size / factor, lr / factor
            if decay and decoupled:
                p.mul_(1 - lr * decay)
            root = (v * correction).sqrt_().add_(eps)
            p.sub_(m / root * size)

    @staticmethod
    def _size(
        group: dict[str, Any], lr: Any, step: Any, expm1: Callable[[Any], Any]
    ) -> tuple[Any, Any, Any]:
        """Returns the size of step t, η / (1 - β₁ᵗ), 1 / (1 - β₂ᵗ) and η; tensors where t is."""

        def correction(beta: float) -> Any:
            # Not 1 - β^t, which cancels: three digits are lost in the first steps.
            return 1 / -expm1(step * math.log(beta)) if beta else 1.0

        beta1, beta2 = group["betas"]
        return lr * correction(beta1), correction(beta2), lr

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
