"""The base of the normalised layers: power iteration, scale, and following a weight that moves.

A normalised layer is a layer: `weight` stays an ordinary parameter with its ordinary name. A linear
layer scales its output instead of its weight, (W/σ) x = (W x)/σ, which is exact and spares several
passes over the largest matrix of a network. What the power iteration knows is in buffers named
`running_*`, updated in place: Stable-Baselines3 copies buffers of that name to its target networks
at each hard update, and no others.

Source: Miyato et al., ICLR 2018 (arXiv 1802.05957); Gogianu et al., ICML 2021 (PMLR 139:3734-3744).
"""

import math
from typing import Any, Literal

import torch
from torch import Tensor, nn

from sndqn.errors import ConfigError
from sndqn.spectral.functional import Constraint, Mode, norm_along
from sndqn.spectral.norms import (
    LinearMap,
    TopVectors,
    certified_norm,
    exact_norm,
    subspace_iteration,
    top_singular_vectors,
    top_vectors,
)
from sndqn.spectral.subspace import TINY, orthonormal, ritz
from sndqn.spectral.torch_context import only_recorded, transformed, without_autocast, working_dtype

ConvNorm = Literal["operator", "kernel"]
Bound = float | Literal["initial"]

_STATE = ("running_u", "running_v", "running_sigma", "bound")
SETTINGS = (
    "mode",
    "n_power_iterations",
    "grad_through_norm",
    "bound_is_initial",
    "iterates_in_forward",
    "trusts_sigma",
    "divides_output",
    "_pending_bound",
)

# Outputs of a layer whose σ is found by one eigendecomposition: 1 ms for 64, 3 ms for 128.
_SMALL = 128
# How far a weight has moved, relatively to σ, as the stored vectors see it: less is rounding, and
# with more the vectors say little of the new weight.
_ROUNDING, _JUMP = 1e-4, 0.1
# A σ that one more power iteration changes by less, relatively, is taken for found.
_CONVERGED, _MOST_ITERATIONS = 1e-4, 30
# Iterations where Python cannot look at σ, as under torch.func.
_BLIND_ITERATIONS = 4


class SpectralLayer(nn.Module):
    """What the normalised layers share: the power iteration, the scale, and their state.

    In training mode each forward pass refines σ by `n_power_iterations` steps of power iteration.
    Code that owns the optimiser can do better: set `iterates_in_forward` to False, and call
    `refine()` after each step. Then σ is the new weight's at once, and there is one iteration a
    step, however many forward passes.

    In evaluation mode the layer looks whether its stored σ and vectors still fit the weight, and
    finds them again if it was moved: a target network that follows by its parameters alone keeps
    its bound. That takes one product with the vectors a pass. Code that keeps σ current sets
    `trusts_sigma` to spare it.

    The iteration carries a few vectors at once (subspace iteration with Rayleigh-Ritz: Golub and
    Van Loan, Matrix Computations, 8.2). A single one lags wherever training makes another singular
    value the largest, by up to 23 % in σ on small networks; a runner-up that is followed already
    takes over within the step.

    Weights of half precision are normalised in float32, in which σ and its vectors always are.

    Attributes:
        running_u: Left vectors, orthonormal, (n, *shape of one output); the first is the top one.
        running_v: Their images Aᵀ u / σ, (n, *shape of one input); the first has length 1.
        running_sigma: Estimate of the raw weight's σ, a scalar tensor.
        bound: The value σ is held to, a scalar tensor.
        mode: "normalize" scales to the bound; "shrink" only scales down to it; "track" follows σ
            and leaves the layer as it is.
        n_power_iterations: Steps of power iteration in each training-mode forward pass.
        grad_through_norm: Whether gradients see that σ depends on the weight.
        iterates_in_forward: Whether forward passes in training mode make the power iterations, True
            by default, or leave them to calls of `refine()`.
        trusts_sigma: Whether evaluation mode reads the stored σ without looking whether the weight
            has moved; False by default.
        divides_output: A tracked layer's whole output, bias and all, is scaled as this mode would
            scale the weight, by a constant to gradients: the scheduler DivOut. None by default.
    """

    weight: Tensor
    running_u: Tensor
    running_v: Tensor
    running_sigma: Tensor
    bound: Tensor
    mode: Mode
    n_power_iterations: int
    grad_through_norm: bool
    bound_is_initial: bool
    iterates_in_forward: bool
    trusts_sigma: bool
    divides_output: Mode | None

    def _linear_map(self, weight: Tensor) -> LinearMap:
        """Returns a weight of the layer's shape as a map of one input to one output."""
        raise NotImplementedError

    def norm_arguments(self) -> dict[str, Any]:
        """Returns what `exact_norm` needs besides the weight."""
        return {}

    @property
    def _map(self) -> LinearMap:
        """The layer as it is, as a linear map that no gradient knows of."""
        return self._linear_map(self.weight.detach().to(working_dtype(self.weight.dtype)))

    def _setup_spectral(
        self, bound: Bound, mode: Mode, n_power_iterations: int, grad_through_norm: bool
    ) -> None:
        if bound != "initial" and not (isinstance(bound, int | float) and 0 < bound < float("inf")):
            raise ConfigError(f'bound: expected a positive number or "initial", found {bound!r}')
        if mode not in ("normalize", "shrink", "track"):
            raise ConfigError(f'mode: expected "normalize", "shrink" or "track", found {mode!r}')
        if n_power_iterations < 1:
            raise ConfigError(f"n_power_iterations: expected 1 or more, found {n_power_iterations}")
        self.mode = mode
        self.n_power_iterations = n_power_iterations
        self.grad_through_norm = grad_through_norm
        self.bound_is_initial = bound == "initial"
        self.iterates_in_forward = True
        self.trusts_sigma = False
        self.divides_output = None
        like, dtype = self.weight.detach(), working_dtype(self.weight.dtype)
        if not like.numel() or like.is_complex():
            raise ConfigError(
                "spectral_norm: expected a real weight that is not empty, found one of shape "
                f"{tuple(like.shape)}, {like.dtype}"
            )
        linear_map = self._map
        sizes = math.prod(linear_map.in_shape), math.prod(linear_map.out_shape)
        n = min(self._n_vectors(), *sizes)
        shapes = (linear_map.out_shape, linear_map.in_shape)
        u, v = (like.new_zeros(n, *shape, dtype=dtype) for shape in shapes)
        if u.ndim == 4 and not like.is_contiguous():  # channels last, then, as the kernel
            u, v = (t.contiguous(memory_format=torch.channels_last) for t in (u, v))
        self.register_buffer("running_u", u)
        self.register_buffer("running_v", v)
        self.register_buffer("running_sigma", like.new_zeros((), dtype=dtype))
        self.register_buffer("bound", like.new_zeros((), dtype=dtype))
        self._pending_bound: Bound | None = bound
        self._init_sigma()

    def _init_sigma(self) -> None:
        """Finds σ of a new weight, once it has values: on the meta device it has none."""
        if self._pending_bound is None or self.weight.is_meta:
            return
        bound, self._pending_bound = self._pending_bound, None
        for name in _STATE:
            if self.get_buffer(name).is_meta:
                here = torch.zeros_like(self.get_buffer(name), device=self.weight.device)
                self.register_buffer(name, here)
        self.bound.fill_(1.0 if bound == "initial" else bound)
        self.reset_sigma()
        if bound == "initial":
            self._hold_initial_norm()

    def _n_vectors(self) -> int:
        """Returns how many vectors are followed at once."""
        # Over 600 to 2400 steps of DQN on CartPole the 64 x 64 hidden layer's σ was underestimated
        # at worst by 2.9 to 23 % with 1, 2.7 to 7.3 % with 4, 0.04 to 1 % with 8 (from low to high
        # learning rates).
        return 8

    @torch.no_grad()
    def reset_sigma(self) -> None:
        """Computes σ and its vectors anew, to about 1e-6, whatever the buffers held."""
        linear_map, n = self._map, len(self.running_u)
        self.running_sigma.zero_()
        if self._is_small:  # as many vectors as outputs span the top ones
            every = torch.eye(self.running_u[0].numel()).to(self.running_u)
            top = top_vectors(linear_map, every.view(-1, *linear_map.out_shape))
            self._store(TopVectors(top.u[:n], top.v[:n], top.sigma))
            return
        u = top_singular_vectors(linear_map, self.running_u)[0]
        generator = torch.Generator().manual_seed(0)
        others = torch.randn(self.running_u.shape, generator=generator).to(u)
        self._store(top_vectors(linear_map, orthonormal(torch.cat([u[None], others[1:]]))))
        self.power_iteration(10)

    @property
    def _is_small(self) -> bool:
        return self.running_u[0].numel() <= _SMALL

    def _hold_initial_norm(self) -> None:
        if not float(self.running_sigma) > TINY:
            raise ConfigError(
                'bound "initial" holds a layer to the norm it came with, but this one\'s weight is '
                "zero or not finite: give a number"
            )
        self.bound.copy_(self.running_sigma)

    @torch.no_grad()
    def power_iteration(self, n_iterations: int = 1) -> None:
        """Refines the stored σ and vectors for the weight as it is now."""
        for _ in range(n_iterations):
            self._store(subspace_iteration(self._map, self.running_v))

    def refine(self) -> None:
        """Makes the power iterations that belong to one gradient step."""
        self.power_iteration(self.n_power_iterations)

    def _store(self, top: TopVectors) -> None:
        self.running_u.copy_(top.u)
        self.running_v.copy_(top.v)
        self.running_sigma.copy_(torch.where(top.sigma < math.inf, top.sigma, self.running_sigma))

    @property
    def _stored(self) -> TopVectors:
        return TopVectors(self.running_u, self.running_v, self.running_sigma)

    @torch.no_grad()
    def _iterated(self, n_iterations: int) -> TopVectors:
        """Returns what so many power iterations find, and stores nothing."""
        top = self._stored
        for _ in range(n_iterations):
            top = subspace_iteration(self._map, top.v)
        return top

    @torch.no_grad()
    def stretch_of_vectors(self) -> Tensor:
        """Computes how far the weight stretches the stored left vectors: never above σ."""
        return ritz(self._map.adjoint(self.running_u))[1]

    def _refined(self) -> TopVectors:
        """Returns σ and its vectors for a pass in training mode."""
        if not self.iterates_in_forward:
            return self._stored
        if transformed():
            return self._iterated(self.n_power_iterations)
        self.refine()
        return self._stored

    def _followed(self) -> TopVectors:
        """Returns σ and its vectors for a pass in evaluation mode."""
        if self.trusts_sigma:
            return self._stored
        if only_recorded() or transformed() or self.weight.is_meta:
            return self._iterated(_BLIND_ITERATIONS)
        self.follow_weight()
        return self._stored

    @torch.no_grad()
    def follow_weight(self) -> None:
        """Brings σ and its vectors up to the weight, if it was moved.

        They fit the weight if Aᵀ u = σ v for each pair. After a small move of a large weight a few
        power iterations lead back there; otherwise all is computed anew. A move that is orthogonal
        to every left vector is not seen.
        """
        misfit = self._map.adjoint(self.running_u) - self.running_sigma * self.running_v
        moved, sigma = float(torch.linalg.vector_norm(misfit)), float(self.running_sigma)
        if sigma > TINY and moved <= _ROUNDING * sigma:
            return
        if sigma > TINY and moved <= _JUMP * sigma:
            self.converge()
        else:  # or what was moved is not finite
            self.reset_sigma()

    @torch.no_grad()
    def converge(self) -> None:
        """Iterates until σ stands still; computes it at once where the layer is small."""
        if self._is_small:
            self.reset_sigma()
            return
        for _ in range(_MOST_ITERATIONS):
            before = float(self.running_sigma)
            self.power_iteration(2)
            if abs(float(self.running_sigma) - before) <= _CONVERGED * before:
                return

    def _top(self) -> TopVectors:
        """Returns σ and its vectors for a pass."""
        self._init_sigma()
        with without_autocast(self.weight.device):
            return self._refined() if self.training else self._followed()

    def _differentiates_norm(self) -> bool:
        held = self.mode != "track" and self.grad_through_norm
        return held and self.training and torch.is_grad_enabled()

    def _scale_by_autograd(self, top: TopVectors) -> Tensor:
        """Computes the scale by plain operations, which torch.func can differentiate."""
        weight = self.weight.to(top.sigma.dtype)
        return self.constraint.scale_of(norm_along(self._linear_map(weight), top.u[0], top.v[0]))

    @property
    def constraint(self) -> Constraint:
        """The factor on the output as a function of σ."""
        return Constraint(self.bound, self.mode)

    @property
    def sigma(self) -> Tensor:
        """The raw weight's σ by which the layer acts, a scalar tensor."""
        self._init_sigma()
        return self.running_sigma if self.training else self._followed().sigma

    @property
    def scale(self) -> Tensor:
        """The factor on the output by `sigma`; a scalar tensor."""
        return self.constraint.scale_of(self.sigma)

    @property
    def output_scale(self) -> Tensor:
        """The factor on the whole output, bias and all; 1 but for `divides_output`."""
        return Constraint(self.bound, self.divides_output or "track").scale_of(self.sigma)

    def _finish(self, z: Tensor, sigma: Tensor) -> Tensor:
        if self.divides_output is None:
            return z
        return z * Constraint(self.bound, self.divides_output).scale_of(sigma)

    @property
    def effective_weight(self) -> Tensor:
        """The weight of the plain layer that computes the same function in evaluation mode."""
        return self.weight * (self.scale * self.output_scale)

    def exact_sigma(self, *, effective: bool = True) -> float:
        """Computes σ to rounding, of the effective weight or of the raw one."""
        sigma = exact_norm(self.weight, **self.norm_arguments())
        return sigma * float(self.scale * self.output_scale) if effective else sigma

    def certified_sigma(self, *, effective: bool = True) -> float:
        """Bounds σ from above, of the effective weight or of the raw one."""
        sigma = certified_norm(self.weight, **self.norm_arguments())
        return sigma * float(self.scale * self.output_scale) if effective else sigma

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        # A plain layer's state has a weight and no vectors: take the weight, then find them. Of a
        # state with another number of vectors take σ, too. The buffers that are there keep their
        # shapes: Stable-Baselines3 holds on to them.
        vectors = state_dict.get(prefix + "running_u")
        own: tuple[str, ...] = ()
        if vectors is None:
            own = _STATE if prefix + "weight" in state_dict else ()
        elif vectors.ndim == self.running_u.ndim and len(vectors) != len(self.running_u):
            own = _STATE[:2]
        state_dict = {**state_dict, **{prefix + name: self.get_buffer(name) for name in own}}
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
        if vectors is not None:
            self._pending_bound = None
            if own:
                sigma = self.running_sigma.clone()
                self.reset_sigma()
                self.running_sigma.copy_(sigma)
        elif self._pending_bound is not None:
            self._init_sigma()
        elif own:
            self.reset_sigma()
            if self.bound_is_initial:
                self._hold_initial_norm()

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        # As torch moves a module to a device or dtype; σ and its vectors stay in full precision.
        before = {name: self.get_buffer(name) for name in _STATE}
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name, old in before.items():
            new = self.get_buffer(name)
            if new.dtype != working_dtype(new.dtype):
                self.register_buffer(name, old.to(new.device))
        return self

    def extra_repr(self) -> str:
        """Adds the spectral settings to the plain layer's own."""
        bound = f"{float(self.bound):g}" if self._pending_bound is None else self._pending_bound
        bound = "initial" if self.bound_is_initial else bound
        return f"{super().extra_repr()}, bound={bound}, mode={self.mode}"
