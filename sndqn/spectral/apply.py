"""Turns plain layers into normalised ones and back."""

import copy
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from sndqn.errors import ConfigError
from sndqn.spectral.functional import Mode
from sndqn.spectral.layers import SpectralConv2d, SpectralLinear
from sndqn.spectral.norms import Pair
from sndqn.spectral.spectral_layer import SETTINGS, Bound, ConvNorm, SpectralLayer

M = TypeVar("M", bound=nn.Module)


def spectral_norm(
    layer: nn.Module,
    *,
    bound: Bound = 1.0,
    mode: Mode = "normalize",
    n_power_iterations: int = 1,
    grad_through_norm: bool = True,
    input_size: Pair | None = None,
    conv_norm: ConvNorm = "operator",
) -> SpectralLinear | SpectralConv2d:
    """Holds a layer under a spectral norm: `spectral_norm(nn.Linear(100, 100))`.

    Args:
        layer: A plain Linear or Conv2d. The result shares its parameters; the layer is unchanged.
        bound: The value σ is held to, 1 by default; "initial" is the layer's own σ now, so that a
            pretrained layer keeps its function.
        mode: "normalize" scales to the bound, "shrink" only down to it, "track" follows σ alone.
        n_power_iterations: Steps of power iteration in each training-mode forward pass.
        grad_through_norm: Whether the gradient flows through σ.
        input_size: Height and width of a convolution's inputs, for its operator's norm.
        conv_norm: "operator" or "kernel", see `SpectralConv2d`. Ignored for a Linear.

    Raises:
        ConfigError: Another kind of layer, one whose weight something else makes, a setting out
            of range, or a missing input size.
    """
    if type(layer) in (nn.Linear, nn.Conv2d) and not isinstance(
        layer._parameters.get("weight"), nn.Parameter
    ):
        raise ConfigError(
            f"spectral_norm: expected a {type(layer).__name__} with a weight of its own, found one "
            "whose weight something else makes, such as weight_norm or pruning: remove that first"
        )
    if type(layer) is nn.Linear:
        linear = _same_layer_as(layer, SpectralLinear)
        linear._setup_spectral(bound, mode, n_power_iterations, grad_through_norm)
        return linear
    if type(layer) is nn.Conv2d:
        convolution = _same_layer_as(layer, SpectralConv2d)
        convolution._setup_convolution(input_size, conv_norm)
        convolution._setup_spectral(bound, mode, n_power_iterations, grad_through_norm)
        return convolution
    raise ConfigError(
        f"spectral_norm: expected a plain Linear or Conv2d, found {type(layer).__name__}"
    )


def remove_spectral_norm(module: nn.Module) -> nn.Module:
    """Returns the module with plain layers in place of normalised ones, computing the same.

    The scale of evaluation mode is folded into the weights, as new parameters. A normalised layer
    is answered with its plain counterpart; in any other module the layers are replaced in place.
    """
    if isinstance(module, SpectralLayer):
        plain = _same_layer_as(module, nn.Linear if isinstance(module, nn.Linear) else nn.Conv2d)
        plain._buffers = {}
        plain.weight = nn.Parameter(module.effective_weight.detach().clone())
        if module.divides_output is not None and isinstance(module.bias, Tensor):
            plain.bias = nn.Parameter((module.bias * module.output_scale).detach())
        for name in SETTINGS:
            del plain.__dict__[name]
        return plain
    for name, layer in _spectral_layers(module):
        replace_layer(module, name, remove_spectral_norm(layer))
    return module


def normalize_layers(
    module: nn.Module, names: list[str], example_input: object = None, **settings: Any
) -> nn.Module:
    """Replaces the named layers of a module by normalised ones, in place.

    Args:
        module: Any module.
        names: Dotted names of its Linear and Conv2d layers, as in `named_modules`.
        example_input: An input of the module, by which convolutions learn their input sizes; not
            needed for linear layers or `conv_norm="kernel"`.
        **settings: As for `spectral_norm`.
    """
    for name, layer in _normalised(module, names, example_input, settings).items():
        replace_layer(module, name, layer)
    return module


@torch.no_grad()
def scale_layers(
    module: nn.Module, names: list[str], example_input: object = None, **settings: Any
) -> nn.Module:
    """Multiplies the named layers' weights by bound / σ, once and in place; they stay plain.

    The module then computes what `normalize_layers` would make it compute, until it learns.

    Args:
        module: Any module.
        names: As for `normalize_layers`.
        example_input: As for `normalize_layers`.
        **settings: As for `spectral_norm`.
    """
    for layer in _normalised(module, names, example_input, settings).values():
        layer.weight.mul_(layer.scale)  # the plain layer's own weight
    return module


def _normalised(
    module: nn.Module, names: list[str], example_input: object, settings: dict[str, Any]
) -> dict[str, SpectralLinear | SpectralConv2d]:
    """Makes the normalised layer of each named one; they share their parameters."""
    layers = {name: module.get_submodule(name) for name in names}
    sizes: dict[nn.Module, Pair] = {}
    if example_input is not None and any(isinstance(m, nn.Conv2d) for m in layers.values()):
        sizes = input_sizes(module, example_input)
    return {
        name: spectral_norm(layer, input_size=sizes.get(layer), **settings)
        for name, layer in layers.items()
    }


def input_sizes(module: nn.Module, example_input: object) -> dict[nn.Module, Pair]:
    """Finds the height and width that each Conv2d of a module sees, by one forward pass."""
    sizes: dict[nn.Module, Pair] = {}

    def record(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        sizes[layer] = (inputs[0].shape[-2], inputs[0].shape[-1])

    hooks = [
        m.register_forward_pre_hook(record) for m in module.modules() if isinstance(m, nn.Conv2d)
    ]
    modes = {m: m.training for m in module.modules()}
    module.eval()
    try:
        with torch.no_grad():
            module(example_input)
    finally:
        for hook in hooks:
            hook.remove()
        for m, training in modes.items():
            m.training = training
    return sizes


def replace_layer(module: nn.Module, name: str, layer: nn.Module) -> None:
    """Puts a layer at a dotted name, and wherever else the module holds the one it replaces."""
    old = module.get_submodule(name)
    for parent in list(module.modules()):
        for child_name, child in list(parent._modules.items()):
            if child is old:
                parent._modules[child_name] = layer


def _spectral_layers(module: nn.Module) -> list[tuple[str, SpectralLayer]]:
    return [(n, m) for n, m in module.named_modules() if isinstance(m, SpectralLayer)]


def _same_layer_as(layer: nn.Module, cls: type[M]) -> M:
    """Makes a module of another class with the layer's parameters, hooks and settings.

    Not by its constructor, which would draw from torch's random state and so change every weight
    made after it: a network must start equal with and without normalisation.
    """
    other = cls.__new__(cls)
    other.__dict__.update({key: copy.copy(value) for key, value in layer.__dict__.items()})
    return other
