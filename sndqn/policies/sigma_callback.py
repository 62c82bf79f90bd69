"""σ of every weight layer, logged while Stable-Baselines3's `learn` runs."""

from typing import Any

from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger
from torch import nn

from sndqn.diagnostics import convolved_sizes, quick_sigma
from sndqn.diagnostics.tables import spectral_sentence
from sndqn.networks import SpectralSettings
from sndqn.policies.base import SpectralPolicyMixin
from sndqn.spectral import SpectralLayer, weight_layers
from sndqn.spectral.norms import Pair
from sndqn.spectral.spectral_layer import ConvNorm


def measure_sigma(
    network: nn.Module, sizes: dict[nn.Module, Pair], conv_norm: ConvNorm
) -> dict[str, float]:
    """Returns σ of every weight layer's weight, by dotted name. Takes milliseconds.

    That of a normalised layer is the one it divides by; a plain layer's is estimated from its
    weight. Nothing is drawn and nothing moves.

    Args:
        network: A Q-network.
        sizes: From `convolved_sizes`.
        conv_norm: Which norm of plain convolutions, "operator" or "kernel".
    """
    return {
        entry.name: (
            float(entry.layer.running_sigma)
            if isinstance(entry.layer, SpectralLayer)
            else quick_sigma(entry.layer, sizes, conv_norm)
        )
        for entry in weight_layers(network)
    }


class SigmaCallback(BaseCallback):
    """Logs σ of every weight layer, and the bound of the normalised ones: sn/LAYER/sigma, /bound.

    For `learn` of Stable-Baselines3's DQN, sb3-contrib's QRDQN or sndqn's algorithms, whatever
    their policy: a layer without SN is measured too.

    Args:
        every_timesteps: Steps between two measurements. Each goes with the logger's next record.
        conv_norm: Which norm of plain convolutions, "operator" (default) or "kernel".
        verbose: 1 prints a line as training starts: which layers are normalised, and every σ.
    """

    def __init__(
        self,
        every_timesteps: int = 1_000,
        conv_norm: ConvNorm = "operator",
        verbose: int = 0,
    ) -> None:
        super().__init__(verbose)
        self.every_timesteps = every_timesteps
        self.conv_norm = conv_norm

    @property
    def network(self) -> Any:
        """The online network."""
        policy: Any = self.model.policy
        return policy.quantile_net if hasattr(policy, "quantile_net") else policy.q_net

    def _on_training_start(self) -> None:
        self.sizes = convolved_sizes(self.network, self.model.observation_space)
        self.next_at = self.num_timesteps
        if self.verbose:
            policy: Any = self.model.policy
            ours = isinstance(policy, SpectralPolicyMixin)
            settings = policy.spec.spectral if ours else SpectralSettings(layers="none")
            found = measure_sigma(self.network, self.sizes, self.conv_norm)
            words = ", ".join(f"{name} {sigma:.3g}" for name, sigma in found.items())
            print(f"{spectral_sentence(self.network, settings)}. σ of the weights: {words}")

    def _on_step(self) -> bool:
        if self.num_timesteps >= self.next_at:
            self.next_at = self.num_timesteps + self.every_timesteps
            self._record(self.logger)
        return True

    def _on_training_end(self) -> None:
        self._record(self.logger)

    def _record(self, logger: Logger) -> None:
        for name, sigma in measure_sigma(self.network, self.sizes, self.conv_norm).items():
            logger.record(f"sn/{name}/sigma", sigma)
            layer = self.network.get_submodule(name)
            if isinstance(layer, SpectralLayer):
                logger.record(f"sn/{name}/bound", float(layer.bound))
