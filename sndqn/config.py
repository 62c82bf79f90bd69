"""TrainConfig: one frozen model whose fields are the command line's flags and the YAML's keys."""

import difflib
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from sndqn.errors import ConfigError


def _whole_number(value: object) -> object:
    """Lets 1e6 and "1e6" be the integer they mean, and keeps true from being 1."""
    if isinstance(value, bool):
        raise ValueError("a number")
    if isinstance(value, str):
        try:
            value = float(value) if not value.lstrip("+-").isdigit() else int(value)
        except ValueError:
            return value
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _numbers(value: object) -> object:
    """Reads "64,64" as a list."""
    return [part for part in value.split(",") if part] if isinstance(value, str) else value


def _selection(value: object) -> object:
    """Reads -2 and [-2, -3], as YAML gives them, as "-2" and "-2,-3"."""
    if isinstance(value, list):
        return ",".join(map(str, value))
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


Int = Annotated[int, BeforeValidator(_whole_number)]
Ints = Annotated[tuple[Int, ...], BeforeValidator(_numbers)]
# The first field of each section, for the help text.
SECTIONS = {
    "env": "run",
    "protocol": "environment",
    "torso": "network",
    "sn_layers": "spectral normalisation",
    "double": "learning",
    "exploration_initial_eps": "exploration",
    "eval_episodes": "evaluation",
}


class TrainConfig(BaseModel):
    """Everything a training run depends on."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True
    )

    env: str
    """What to learn: Breakout, MinAtar/Breakout, CartPole, any discrete Gymnasium id."""
    algo: Literal["dqn"] = "dqn"
    """The algorithm."""
    total_timesteps: Int = Field(1_000_000, gt=0)
    """Steps to train for, over all environments; an Atari step is 4 frames."""
    seed: Int = Field(0, ge=0, lt=2**31)
    """Seed of weights, environments, exploration and replay sampling."""
    runs_dir: str = "runs"
    """Folder under which the run's own folder is made."""
    device: str = Field("auto", pattern=r"^(auto|cpu|cuda(:\d+)?|mps)$")
    """auto, cpu, cuda, cuda:0, mps."""
    threads: Int = Field(0, ge=0)
    """Threads of one tensor operation; 0 leaves it to torch."""
    compile: Literal["auto", "always", "never"] = "auto"
    """Whether the update is compiled; auto: on a CPU with g++ or clang++, from 25000 updates on."""
    overlap: bool = True
    """Whether learning goes on while the environments run."""
    log_every_timesteps: Int = Field(1_000, gt=0)
    """Steps between two lines of metrics."""
    tensorboard: bool = True
    """Whether to write TensorBoard events beside metrics.jsonl."""

    protocol: str | None = None
    """Atari's conventions: nature (default), machado, sb3. The settings below override it."""
    sticky_actions: float | None = Field(None, ge=0, lt=1)
    """Probability that the environment repeats its last action (Atari, MinAtar)."""
    noop_max: Int | None = Field(None, ge=0)
    """Upper end of the random no-op frames at a game's start (Atari)."""
    life_loss: bool | None = None
    """Whether losing a life ends an episode in training (Atari)."""
    clip_rewards: bool | None = None
    """Whether rewards are clipped to [-1, 1] in training (Atari)."""
    fire_reset: bool | None = None
    """Whether FIRE is pressed at a game's start (Atari)."""
    frame_skip: Int | None = Field(None, gt=0)
    """Frames per step (Atari)."""
    max_frames: Int | None = Field(None, gt=0)
    """Frames after which a game is cut (Atari)."""
    full_action_space: bool | None = None
    """All 18 actions instead of the game's own (Atari)."""
    minimal_actions: bool | None = None
    """The game's own actions instead of all six (MinAtar)."""
    difficulty_ramping: bool | None = None
    """Whether the game gets harder (MinAtar)."""
    n_envs: Int = Field(1, gt=0, le=1024)
    """Environments stepped together; the ratio of updates to steps stays."""

    torso: Literal["auto", "mlp", "nature_cnn", "minatar_cnn"] = "auto"
    """Network before the head; auto takes what fits the observations."""
    features_dim: Int | None = Field(None, gt=0)
    """Units of a CNN torso's last layer: 512 (nature_cnn), 128 (minatar_cnn)."""
    channels: Ints | None = None
    """Convolution channels of minatar_cnn, such as 16 or 24,24."""
    net_arch: Ints | None = None
    """Hidden layers before the output: 64,64, or none after a CNN."""
    activation: Literal["relu", "tanh", "elu", "gelu", "silu"] = Field("relu")
    """Activation of those hidden layers."""
    dueling: bool = False
    """Separate value and advantage streams."""

    sn_layers: Annotated[str, BeforeValidator(_selection)] = Field("-2")
    """Weight layers under SN: -2, or -2,-3, all, none, convs, layer names."""
    sn_bound: float | Literal["initial"] = Field(1.0)
    """Value σ is held to, or initial for each layer's own at the start."""
    sn_mode: Literal["normalize", "shrink"] = Field("normalize")
    """normalize scales to the bound, shrink only down to it."""
    sn_conv_norm: Literal["operator", "kernel"] = Field("operator")
    """Norm of a convolution: of its operator (true), or of its flattened kernel (torch's)."""
    sn_power_iterations: Int = Field(1, gt=0)
    """Power iterations per update."""
    sn_grad_through_norm: bool = True
    """Whether the gradient flows through σ."""

    double: bool = False
    """Double Q-learning."""
    gamma: float = Field(0.99, ge=0, le=1)
    """Discount per step."""
    loss: Literal["huber", "mse"] = Field("huber")
    """Loss of the TD error."""
    batch_size: Int = Field(32, gt=0)
    """Transitions per update."""
    buffer_size: Int = Field(1_000_000, gt=0)
    """Transitions the replay holds."""
    learning_starts: Int = Field(50_000, ge=0)
    """Steps of random play before the first update."""
    train_freq: Int = Field(4, gt=0)
    """Steps between updates."""
    gradient_steps: Int = Field(1, gt=0)
    """Updates each time."""
    target_update_interval: Int = Field(10_000, gt=0)
    """Steps between updates of the target network."""
    tau: float = Field(1.0, gt=0, le=1)
    """Share of the online network in an update of the target network; 1 copies."""
    learning_rate: float = Field(2.5e-4, gt=0)
    """Step size of the optimiser."""
    learning_rate_decay: bool = False
    """Whether the learning rate falls linearly to zero over the training."""
    optimizer: Literal["adam", "rmsprop"] = Field("adam")
    """The optimiser; rmsprop is centred, with decay 0.95."""
    optimizer_eps: float = Field(1e-8, gt=0)
    """ε of the optimiser, outside the root."""
    max_grad_norm: float | None = Field(None, gt=0)
    """Largest norm of the gradient; none clips nothing."""

    exploration_initial_eps: float = Field(1.0, ge=0, le=1)
    """Probability of a random action at the start."""
    exploration_final_eps: float = Field(0.01, ge=0, le=1)
    """Probability of a random action in the end."""
    exploration_timesteps: Int = Field(250_000, gt=0)
    """Steps over which it falls."""

    eval_episodes: Int = Field(10, gt=0)
    """Whole episodes of an evaluation."""
    eval_epsilon: float = Field(0.001, ge=0, le=1)
    """Probability of a random action in evaluation."""
    eval_every_timesteps: Int = Field(0, ge=0)
    """Steps between evaluations during training; 0 evaluates at the end only."""
    keep_best: bool = False
    """Whether the agent is the best of those evaluations, instead of the last network."""
    eval_max_steps: Int | None = Field(None, gt=0)
    """Steps after which an evaluation episode is cut; none leaves it to the environment."""
    eval_seed: Int = Field(1_000, ge=0)
    """Seed of evaluation episodes; equal for all runs, so that agents meet the same games."""

    @model_validator(mode="after")
    def _agree(self) -> "TrainConfig":
        if self.learning_starts >= self.total_timesteps:
            raise ValueError(
                f"learning_starts: expected less than total_timesteps ({self.total_timesteps}), "
                f"found {self.learning_starts}: nothing would be learnt. "
                f"Type --learning-starts {self.total_timesteps // 10}"
            )
        if self.keep_best and not self.eval_every_timesteps:
            raise ValueError(
                "keep_best: expected evaluations to choose by, found eval_every_timesteps 0. "
                f"Type --eval-every-timesteps {max(self.total_timesteps // 20, 1)}"
            )
        if self.buffer_size < self.batch_size:
            raise ValueError(
                f"buffer_size: expected at least batch_size ({self.batch_size}), "
                f"found {self.buffer_size}"
            )
        if self.sn_bound != "initial" and not self.sn_bound > 0:
            raise ValueError(
                f'sn_bound: expected a positive number or "initial", found {self.sn_bound}'
            )
        if self.train_freq % self.n_envs and self.n_envs * self.gradient_steps % self.train_freq:
            raise ValueError(
                f"n_envs: expected a divisor or a multiple of train_freq ({self.train_freq}), so "
                f"that updates per step stay the same, found {self.n_envs}"
            )
        return self

    def to_yaml(self) -> str:
        """Writes every setting, for `--config` to read."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def make_config(values: Mapping[str, Any]) -> TrainConfig:
    """Validates settings.

    Raises:
        ConfigError: One line a fault: the key, what it takes, what was found.
    """
    check_keys(values, "configuration")
    try:
        return TrainConfig.model_validate(dict(values))
    except ValidationError as error:
        raise ConfigError("\n".join(map(_sentence, error.errors()[:2]))) from None


def check_keys(values: Mapping[str, Any], source: str) -> None:
    """Refuses keys that are no settings, with the nearest that is one."""
    for key in values:
        if key not in TrainConfig.model_fields:
            near = difflib.get_close_matches(str(key), TrainConfig.model_fields, n=1)
            hint = f": did you mean {near[0]}?" if near else ". `sndqn train --help` lists them"
            raise ConfigError(f"{source}: no setting is called {str(key)!r}{hint}")


def _sentence(fault: Any) -> str:
    if fault["type"] == "value_error" and not fault["loc"]:
        return str(fault["ctx"]["error"])
    message = fault["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
    message = message.replace("a valid integer, unable to parse string as an integer", "an integer")
    message = message.replace("a valid number, unable to parse string as a number", "a number")
    if fault["type"] == "string_pattern_mismatch":
        message = "auto, cpu, cuda, cuda:N or mps"
    if fault["type"] == "missing":
        return f"{fault['loc'][0]}: missing. Type --{fault['loc'][0]} NAME, such as --env Breakout"
    return f"{fault['loc'][0]}: expected {message}, found {fault['input']!r}"
