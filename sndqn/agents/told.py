"""What weights from elsewhere do not tell, and the user has to."""

from dataclasses import dataclass, fields, replace

from sndqn.envs.settings import EnvSettings
from sndqn.errors import ConfigError


@dataclass(frozen=True)
class Told:
    """What the user says of an agent whose weights Stable-Baselines3 saved; None is not said.

    Attributes:
        settings: The environment it learnt.
        activation: Of the hidden layers: a name in `sndqn.networks.spec.ACTIVATIONS`.
        sn_mode: Of the layers under SN: "normalize", "shrink" or "track".
        v_min: Lowest return of C51's atoms.
        v_max: Highest return of C51's atoms.
        n_acting_quantiles: Fractions that IQN acts by.
    """

    settings: EnvSettings | None = None
    activation: str | None = None
    sn_mode: str | None = None
    v_min: float | None = None
    v_max: float | None = None
    n_acting_quantiles: int | None = None

    def completed(self, other: "Told") -> "Told":
        """Returns this, and the other where this says nothing."""
        silent = {f.name: getattr(other, f.name) for f in fields(self) if f.name not in self.said}
        return replace(self, **silent)

    @property
    def said(self) -> list[str]:
        """The names of what is said."""
        return [field.name for field in fields(self) if getattr(self, field.name) is not None]

    def refuse_for(self, agent: str) -> None:
        """Refuses to be said of an agent whose file says all of it.

        Raises:
            ConfigError: Something is said.
        """
        for name in self.said:
            option = "env" if name == "settings" else name.replace("_", "-")
            raise ConfigError(
                f"--{option}: expected a zip of Stable-Baselines3 or a folder of rl-zoo, found "
                f"{agent}, which says it itself: leave it out"
            )
