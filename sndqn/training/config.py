"""TrainConfig: one frozen model whose fields are the command line's flags and the YAML's keys."""

import difflib
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from sndqn.errors import ConfigError, shortened
from sndqn.runs.folder import TITLE


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


def _words(value: object) -> object:
    """Reads a word as a list of it."""
    return [value] if isinstance(value, str) else value


def _selection(value: object) -> object:
    """Reads -2 and [-2, -3], as YAML gives them, as "-2" and "-2,-3"."""
    if isinstance(value, list):
        return ",".join(map(str, value))
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _mapping(value: object) -> object:
    """Reads "500000: {sticky_actions: 0.25}" as YAML does, without aliases or anything to run."""
    if not isinstance(value, str):
        return value
    try:
        return yaml.safe_load(value) if "*" not in value else value
    except (yaml.YAMLError, ValueError, RecursionError):
        return value


Int = Annotated[int, BeforeValidator(_whole_number)]
AlgorithmName = Literal["dqn", "c51", "qr-dqn", "iqn"]
InitializerName = Literal["torch", "xavier_uniform", "variance_scaling", "orthogonal"]
# Upper ends far beyond use, which readers of agent files hold to as well.
MAX_SIZE, MAX_LAYERS = 2**20, 32
Size = Annotated[Int, Field(gt=0, le=MAX_SIZE)]
Sizes = Annotated[tuple[Size, ...], BeforeValidator(_numbers), Field(max_length=MAX_LAYERS)]
Words = Annotated[tuple[str, ...], BeforeValidator(_words)]
# The sections of the help text, by the first field of each.
SECTIONS = {
    "env": "run",
    "protocol": "environment",
    "torso": "network",
    "sn_layers": "spectral normalisation",
    "double": "learning",
    "exploration": "exploration",
    "eval_episodes": "evaluation",
}

# Settings of one algorithm or a few, by name; None means the algorithm's default.
OWN_SETTINGS: dict[str, tuple[AlgorithmName, ...]] = {
    "loss": ("dqn",),
    "n_atoms": ("c51",),
    "v_min": ("c51",),
    "v_max": ("c51",),
    "n_quantiles": ("qr-dqn", "iqn"),
    "huber_threshold": ("qr-dqn", "iqn"),
    "n_target_quantiles": ("iqn",),
    "n_acting_quantiles": ("iqn",),
}


class TrainConfig(BaseModel):
    """Everything a training run depends on."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True
    )

    env: str
    """What to learn: Breakout, MinAtar/Breakout, CartPole, any discrete Gymnasium id; or several of
    one suite, with a shared torso and a head each: MinAtar/Breakout,MinAtar/Asterix."""
    imports: Words = ()
    """Modules that register the environment, imported only where their names are typed."""
    wrappers: Words = ()
    """Wrappers around each environment, module:Class, used only where their names are typed."""
    algo: AlgorithmName = "dqn"
    """The algorithm; rainbow, m-iqn and btr are configurations: --config rainbow."""
    title: str | None = Field(None, pattern=TITLE)
    """What these settings are called, in the run's folder and its agent: --config's name, or else
    the algorithm's."""
    total_timesteps: Int = Field(1_000_000, gt=0, le=10**15)
    """Steps to train for, over all environments; an Atari step is 4 frames."""
    seed: Int = Field(0, ge=0, lt=2**31)
    """Seed of weights, environments, exploration and replay sampling."""
    init_from: str | None = None
    """Agent to start from, a run's folder or file; its output layer is new where actions differ."""
    runs_dir: str = "runs"
    """Folder under which the run's own folder is made."""
    device: str = Field("auto", pattern=r"^(auto|cpu|cuda(:\d+)?|mps)$")
    """auto, cpu, cuda, cuda:0, mps."""
    threads: Int = Field(0, ge=0, le=1024)
    """Threads of one tensor operation; 0: one for small networks, torch's default for large ones,
    and one while others use the cores."""
    compile: Literal["auto", "always", "never"] = "auto"
    """Whether the update is compiled; auto: on a CPU with g++ or clang++, from 25000 updates on.
    On a GPU "always" captures it in a CUDA graph."""
    overlap: bool = True
    """Whether learning goes on while the environments run."""
    log_every_timesteps: Int = Field(1_000, gt=0)
    """Steps between two lines of metrics."""
    tensorboard: bool = True
    """Whether to write TensorBoard events beside metrics.jsonl."""
    checkpoint_every_timesteps: Int = Field(50_000, ge=0)
    """Steps between two checkpoints, for --resume; 0 saves one only when training is stopped."""
    keep_checkpoints: bool = False
    """Whether the last checkpoints stay when the run is finished."""

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
    """Whether FIRE is pressed at a game's start, and with life_loss after a lost life (Atari)."""
    frame_skip: Int | None = Field(None, gt=0)
    """Frames per step (Atari)."""
    max_frames: Int | None = Field(None, gt=0)
    """Frames after which a game is cut (Atari)."""
    full_action_space: bool | None = None
    """All 18 actions instead of the game's own (Atari)."""
    minimal_actions: bool | None = None
    """The game's own actions instead of all six (MinAtar)."""
    n_channels: Int | None = Field(None, ge=0)
    """Channels of an observation, the last ones empty: 10 suits all games (MinAtar)."""
    difficulty_ramping: bool | None = None
    """Whether the game gets harder (MinAtar)."""
    env_kwargs: Annotated[dict[str, Any] | None, BeforeValidator(_mapping)] = None
    """Keywords of a Gymnasium environment's constructor: '{gravity: -5.0}'."""
    env_changes: Annotated[dict[Int, dict[str, Any]] | None, BeforeValidator(_mapping)] = None
    """Settings of the environment that change at a step: '500000: {sticky_actions: 0.25}'."""
    n_envs: Int = Field(1, gt=0, le=1024)
    """Environments stepped together; the ratio of updates to steps stays."""

    torso: Literal["auto", "mlp", "nature_cnn", "minatar_cnn", "impala_cnn"] = "auto"
    """Network before the head; auto takes what fits the observations."""
    features_dim: Int | None = Field(None, ge=0, le=MAX_SIZE)
    """Units of the torso's last layer: 512 (nature_cnn), 256 (impala_cnn), 128 (minatar_cnn), 0
    (mlp); 0 leaves it out."""
    width: Int | None = Field(None, gt=0, le=1024)
    """Factor on the channels of impala_cnn: 1."""
    pool: Int | None = Field(None, gt=0, le=1024)
    """Side of impala_cnn's final max-pool, such as 6; none leaves it out."""
    channels: Sizes | None = Field(None, min_length=1)
    """Convolution channels of minatar_cnn, such as 16 or 24,24."""
    net_arch: Sizes | None = None
    """Hidden layers before the output: 64,64, or none after a CNN."""
    activation: Literal["relu", "tanh", "elu", "gelu", "silu"] = Field("relu")
    """Activation of those hidden layers."""
    dueling: bool = False
    """Separate value and advantage streams."""
    noisy: bool = False
    """Noisy layers in the head, which explore by themselves."""
    initializer: InitializerName = "torch"
    """Initial weights."""

    sn_layers: Annotated[str, BeforeValidator(_selection)] = Field("-2")
    """Weight layers under SN: -2, or -2,-3, all, none, convs, layer names."""
    sn_bound: float | Literal["initial"] = Field(1.0)
    """Value σ is held to, or initial for each layer's own at the start."""
    sn_mode: Literal["normalize", "shrink", "track"] = Field("normalize")
    """normalize scales to the bound, shrink only down to it, track follows σ alone."""
    sn_conv_norm: Literal["operator", "kernel"] = Field("operator")
    """Norm of a convolution: of its operator (true), or of its flattened kernel (torch's)."""
    sn_power_iterations: Size = 1
    """Power iterations per update."""
    sn_grad_through_norm: bool = True
    """Whether the gradient flows through σ."""
    sn_scheduler: Literal["none", "div_out", "div_grad", "mul_eps", "div_lr"] = "none"
    """What the σ of tracked layers steers instead of the weights: outputs, gradients, Adam's ε, or
    the learning rate."""
    sn_scheduler_form: Literal["product", "layer"] = "product"
    """One factor for all, the product of σ/bound; or each layer's own."""
    sn_scheduler_one_sided: bool = False
    """Whether factors below 1 count as 1."""

    double: bool = False
    """Double Q-learning."""
    munchausen: bool = False
    """Munchausen: the log-policy as a reward, and a soft next value."""
    munchausen_scale: float = Field(0.9, ge=0, le=1)
    """Factor on munchausen's log-policy reward."""
    munchausen_temperature: float = Field(0.03, gt=0)
    """Temperature of munchausen's softmax policy."""
    munchausen_clip: float = Field(-1.0, le=0)
    """Lowest log-policy term of munchausen, before the factor."""
    n_steps: Int = Field(1, gt=0, le=MAX_SIZE)
    """Rewards summed before the next value."""
    prioritized: bool = False
    """Prioritised replay."""
    priority_exponent: float = Field(0.5, ge=0, le=1)
    """How much priorities count; 0 is uniform."""
    importance_exponent: float = Field(0.4, ge=0, le=1)
    """How much importance weights correct for priorities at first; rises to 1."""
    n_atoms: Int | None = Field(None, gt=1, le=MAX_SIZE)
    """Atoms of c51: 51."""
    v_min: float | None = Field(None, ge=-1e30, le=1e30)
    """Lowest atom of c51: -10."""
    v_max: float | None = Field(None, ge=-1e30, le=1e30)
    """Highest atom of c51: 10."""
    n_quantiles: Size | None = None
    """Quantiles: 200 (qr-dqn), 64 random ones (iqn)."""
    n_target_quantiles: Size | None = None
    """Random quantiles of iqn's target: 64."""
    n_acting_quantiles: Size | None = None
    """Even quantiles of iqn's Q-values: 32."""
    huber_threshold: float | None = Field(None, gt=0)
    """Threshold of the quantile Huber loss: 1."""
    gradient_penalty: float = Field(0.0, ge=0)
    """Factor on the squared excess of the slope |∂Q/∂s|; 0 leaves the penalty out."""
    gradient_penalty_threshold: float = Field(1.0, ge=0)
    """Slope |∂Q/∂s| up to which the gradient penalty is zero."""
    gamma: float = Field(0.99, ge=0, le=1)
    """Discount per step."""
    loss: Literal["huber", "mse"] | None = None
    """Loss of dqn's TD error: huber."""
    batch_size: Size = 32
    """Transitions per update."""
    buffer_size: Int = Field(1_000_000, gt=0, le=10**15)
    """Transitions the replay holds."""
    learning_starts: Int = Field(50_000, ge=0)
    """Steps of random play before the first update."""
    train_freq: Int = Field(4, gt=0, le=MAX_SIZE)
    """Steps between updates."""
    gradient_steps: Int = Field(1, gt=0, le=MAX_SIZE)
    """Updates after every train_freq steps."""
    target_update_interval: Int = Field(10_000, gt=0)
    """Steps between two updates of the target network."""
    tau: float = Field(1.0, gt=0, le=1)
    """Share of the online network in an update of the target network; 1 copies."""
    learning_rate: float = Field(2.5e-4, gt=0)
    """Step size of the optimiser."""
    learning_rate_decay: bool = False
    """Whether the learning rate falls linearly to zero over the training."""
    optimizer: Literal["adam", "rmsprop", "sgd"] = Field("adam")
    """The optimiser; rmsprop has decay 0.95, sgd no momentum."""
    optimizer_eps: float = Field(1e-8, gt=0)
    """ε of adam and rmsprop."""
    rmsprop_centered: bool = True
    """Whether rmsprop subtracts the mean gradient."""
    rmsprop_eps_inside_root: bool = False
    """Whether rmsprop's ε is inside the root, as TensorFlow's."""
    max_grad_norm: float | None = Field(None, gt=0)
    """Largest norm of the gradient; none clips nothing."""

    exploration: Literal["linear", "logarithmic", "constant"] = "linear"
    """How the probability of a random action falls; constant is the final one throughout."""
    exploration_initial_eps: float = Field(1.0, ge=0, le=1)
    """Probability of a random action at the start."""
    exploration_final_eps: float = Field(0.01, ge=0, le=1)
    """Probability of a random action in the end."""
    exploration_warmup_timesteps: Int = Field(0, ge=0)
    """Step at which that probability begins to fall."""
    exploration_timesteps: Int = Field(250_000, gt=0)
    """Step at which it reaches its final value."""

    eval_episodes: Int = Field(10, gt=0)
    """Whole episodes of an evaluation."""
    eval_epsilon: float = Field(0.001, ge=0, le=1)
    """Probability of a random action in evaluation."""
    eval_every_timesteps: Int = Field(0, ge=0)
    """Steps between evaluations during training; 0 evaluates at the end only."""
    keep_best: bool = False
    """Whether the agent is the best of those evaluations, instead of the last network."""
    eval_max_steps: Int | None = Field(None, gt=0)
    """Steps after which an evaluation episode is cut; none: the environment's own limit, or 1000
    where it has none."""
    eval_seed: Int = Field(1_000, ge=0)
    """Seed of evaluation episodes; equal for all runs, so that agents meet the same games."""

    @model_validator(mode="before")
    @classmethod
    def _split_modules(cls, values: Any) -> Any:
        """Reads env "module:Id-v0" as the id, and the module as one to import."""
        if not (isinstance(values, dict) and isinstance(values.get("env"), str)):
            return values
        split = [name.strip().rpartition(":") for name in values["env"].split(",")]
        modules = list(dict.fromkeys(module for module, colon, _ in split if colon))
        if not modules:
            return values
        known = _words(values.get("imports") or ())
        rest = [module for module in modules if module not in (known or ())]  # type: ignore[operator]
        imports = [*known, *rest]  # type: ignore[misc]
        return {**values, "env": ",".join(name for _, _, name in split), "imports": imports}

    @model_validator(mode="after")
    def _agree_on_algorithm(self) -> "TrainConfig":
        for name, algorithms in OWN_SETTINGS.items():
            if getattr(self, name) is not None and self.algo not in algorithms:
                raise ValueError(
                    f"{name}: belongs to {' and '.join(algorithms)}, found algo {self.algo}. "
                    f"Type --algo {algorithms[0]}, or leave it out"
                )
        if self.munchausen and self.algo == "c51":
            raise ValueError(
                "munchausen: expected dqn, qr-dqn or iqn, found algo c51, whose atoms it would "
                "move by another amount for each action. Type --algo iqn"
            )
        if self.double and self.munchausen:
            raise ValueError(
                "munchausen: its soft policy has no greedy action for double Q-learning to choose. "
                "Type --no-double"
            )
        if self.sn_scheduler != "none" and self.sn_mode != "track":
            raise ValueError(
                f"sn_scheduler {self.sn_scheduler}: stands in the place of normalisation and needs "
                f"layers that are only tracked, found sn_mode {self.sn_mode}. Type --sn-mode track"
            )
        if self.sn_scheduler not in ("none", "div_out") and self.optimizer != "adam":
            raise ValueError(
                f"sn_scheduler {self.sn_scheduler}: is defined on Adam's step, found optimizer "
                f"{self.optimizer}. Type --optimizer adam"
            )
        return self

    @model_validator(mode="after")
    def _agree_on_time(self) -> "TrainConfig":
        falls = self.exploration != "constant"
        if falls and self.exploration_warmup_timesteps > self.exploration_timesteps:
            raise ValueError(
                "exploration_warmup_timesteps: expected at most exploration_timesteps "
                f"({self.exploration_timesteps}), found {self.exploration_warmup_timesteps}"
            )
        if self.exploration == "logarithmic" and not self.exploration_final_eps > 0:
            raise ValueError(
                "exploration logarithmic: expected exploration_final_eps above 0, found 0. "
                "Type --exploration-final-eps 0.01"
            )
        late = [at for at in self.env_changes or {} if not 0 < at < self.total_timesteps]
        if late:
            raise ValueError(
                f"env_changes: expected steps between 0 and {self.total_timesteps}, found {late[0]}"
            )
        return self

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

    @property
    def env_names(self) -> list[str]:
        """The names of the environments to learn, one or several."""
        return [name.strip() for name in self.env.split(",")]

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
        faults: dict[Any, list[Any]] = {}
        for fault in error.errors():
            faults.setdefault(fault["loc"][:1], []).append(fault)
        raise ConfigError("\n".join(map(_sentence, list(faults.values())[:2]))) from None


def check_keys(values: Mapping[str, Any], source: str) -> None:
    """Refuses keys that are no settings, with the nearest that is one."""
    for key in values:
        if key not in TrainConfig.model_fields:
            near = difflib.get_close_matches(str(key), TrainConfig.model_fields, n=1)
            hint = f": did you mean {near[0]}?" if near else ". `sndqn train --help` lists them"
            raise ConfigError(f"{source}: no setting is called {str(key)!r}{hint}")


def _sentence(faults: list[Any]) -> str:
    """Says what is wrong with one setting; one that takes several things has a fault for each."""
    fault = faults[0]
    if fault["type"] == "value_error" and not fault["loc"]:
        return str(fault["ctx"]["error"])
    if fault["type"] == "missing":
        return f"{fault['loc'][0]}: missing. Type --{fault['loc'][0]} NAME, such as --env Breakout"
    expected = " or ".join(dict.fromkeys(map(_expected, faults)))
    return f"{fault['loc'][0]}: expected {expected}, found {shortened(fault['input'])}"


def _expected(fault: Any) -> str:
    if fault["type"] == "string_pattern_mismatch":
        return "auto, cpu, cuda, cuda:N or mps"
    message: str = fault["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
    if fault["type"] in ("too_long", "too_short"):
        message = message.removeprefix("Value should have ").partition(" after validation")[0]
    message = message.replace("a valid dictionary", "{name: value}")
    message = message.replace("a valid integer, unable to parse string as an integer", "an integer")
    return message.replace("a valid number, unable to parse string as a number", "a number")
