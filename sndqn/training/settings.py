"""The settings of a training, in sections: one for each place that settings go to.

A setting is written here, and once more where it acts, under the same name. Its string here is its
help. Sections name no code: reading a configuration imports no torch.
"""

from typing import Annotated, Any, ClassVar, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from sndqn.files.fields import MAX_LAYERS, MAX_SIZE
from sndqn.runs.folder import TITLE, default_runs_dir


def whole_number(value: object) -> object:
    """Lets 1e6 and "1e6" be the integer they mean, and keeps true from being 1."""
    if isinstance(value, bool):
        raise ValueError("a number")
    if isinstance(value, str):
        try:
            value = float(value) if not value.lstrip("+-").isdigit() else int(value)
        except ValueError:
            return value
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _parts(value: object) -> object:
    """Reads "64,64" as a list."""
    return [part for part in value.split(",") if part] if isinstance(value, str) else value


def words(value: object) -> object:
    """Reads a word as a list of it."""
    return [value] if isinstance(value, str) else value


def _selection(value: object) -> object:
    """Reads -2 and [-2, -3], as YAML gives them, as "-2" and "-2,-3"."""
    if isinstance(value, list):
        return ",".join(map(str, value))
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _by_layers(value: object) -> object:
    """Reads '-2: 3.2e-4', the number -2 too, as values by selections of layers."""
    found = _mapping(value)
    return {_selection(key): item for key, item in found.items()} if type(found) is dict else found


def _mapping(value: object) -> object:
    """Reads "500000: {sticky_actions: 0.25}" as YAML does, without aliases or anything to run."""
    if not isinstance(value, str):
        return value
    try:
        return yaml.safe_load(value) if "*" not in value else value
    except (yaml.YAMLError, ValueError, RecursionError):
        return value


Int = Annotated[int, BeforeValidator(whole_number)]
AlgorithmName = Literal["dqn", "c51", "qr-dqn", "iqn"]
InitializerName = Literal["torch", "xavier_uniform", "variance_scaling", "orthogonal"]
Size = Annotated[Int, Field(gt=0, le=MAX_SIZE)]
Sizes = Annotated[tuple[Size, ...], BeforeValidator(_parts), Field(max_length=MAX_LAYERS)]
Trackers = Annotated[tuple[Literal["wandb", "trackio", "mlflow"], ...], BeforeValidator(_parts)]
Words = Annotated[tuple[str, ...], BeforeValidator(words)]


class Of:
    """Marks a setting that some algorithms alone have; None means the algorithm's default."""

    def __init__(self, *algorithms: AlgorithmName) -> None:
        self.algorithms = algorithms


class Section(BaseModel):
    """Settings that go to one place.

    Attributes:
        heading: Over their options in the help.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True
    )
    heading: ClassVar[str]


class Run(Section):
    """What is learnt, for how long, and what is looked at on the way."""

    heading = "run"

    env: str
    """What to learn: Breakout, MinAtar/Breakout, CartPole, any discrete Gymnasium id; or several of
    one suite, with a shared torso and a head each: MinAtar/Breakout,MinAtar/Asterix."""
    imports: Words = ()
    """Modules that register the environment, imported only where their names are typed."""
    wrappers: Words = ()
    """Wrappers around each environment, module:Class, used only where their names are typed."""
    n_envs: Int = Field(1, gt=0, le=1024)
    """Environments stepped together; the ratio of updates to steps stays."""
    env_changes: Annotated[dict[Int, dict[str, Any]] | None, BeforeValidator(_mapping)] = None
    """Settings of the environment that change at a step: '500000: {sticky_actions: 0.25}'."""
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
    """Agent to start from: all that names one; its output layer is new where actions differ."""
    eval_every_timesteps: Int = Field(0, ge=0)
    """Steps between evaluations during training; 0 evaluates at the end only."""
    eval_curve_episodes: Int = Field(5, gt=0)
    """Whole episodes of each of those evaluations; at most eval_episodes."""
    keep_best: bool = False
    """Whether the agent is the best of those evaluations, instead of the last network."""


class Machine(Section):
    """Where a run is made and what it writes; nothing that is learnt depends on it."""

    heading = "machine and files"

    runs_dir: str = Field(default_factory=default_runs_dir)
    """Folder under which the run's own folder is made; SNDQN_RUNS_DIR sets the default."""
    device: str = Field("auto", pattern=r"^(auto|cpu|cuda(:\d+)?|mps)$")
    """auto, cpu, cuda, cuda:0, mps."""
    threads: Int = Field(0, ge=0, le=1024)
    """Threads of one tensor operation; 0: one for small networks, torch's default for large ones,
    and one while others use the cores."""
    compile: Literal["auto", "always", "never"] = "auto"
    """Whether the update is compiled; auto: on a CPU with g++ or clang++, from 25000 updates on.
    On a GPU "always" captures it in a CUDA graph."""
    log_every_timesteps: Int = Field(1_000, gt=0)
    """Steps between two lines of metrics."""
    diagnostics: Literal["none", "basic", "all"] = "basic"
    """What is measured of the networks on the way: basic looks at them (σ, ranks, dormant units,
    target gap, ε by layer), all also tries updates and compares Q with returns."""
    diagnostics_every_timesteps: Int = Field(50_000, gt=0)
    """Steps between two such measurements, each made before the target network's next update."""
    tensorboard: bool = True
    """Whether to write TensorBoard events beside metrics.jsonl."""
    track: Trackers = ()
    """Services to send the metrics to as well: wandb, trackio, mlflow, or several: wandb,mlflow."""
    checkpoint_every_timesteps: Int = Field(50_000, ge=0)
    """Steps between two checkpoints, for --resume; 0 saves one only when training is stopped."""
    keep_checkpoints: bool = False
    """Whether the last checkpoints stay whole when the run is finished, for an exact --more; else
    the newest without its replay."""


class Environment(Section):
    """Keywords of `sndqn.envs.resolve_env`; None means the protocol's value."""

    heading = "environment"

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
    screen_size: Int | None = Field(None, gt=0)
    """Height and width of a frame in pixels; 84 by default, less is faster (Atari)."""
    frame_stack: Int | None = Field(None, gt=0)
    """Frames in an observation (Atari)."""
    minimal_actions: bool | None = None
    """The game's own actions instead of all six (MinAtar)."""
    n_channels: Int | None = Field(None, ge=0)
    """Channels of an observation, the last ones empty: 10 suits all games (MinAtar)."""
    difficulty_ramping: bool | None = None
    """Whether the game gets harder (MinAtar)."""
    env_kwargs: Annotated[dict[str, Any] | None, BeforeValidator(_mapping)] = None
    """Keywords of a Gymnasium environment's constructor: '{gravity: -5.0}'."""


class Network(Section):
    """What `sndqn.networks.NetworkSpec` is made of; None means the torso's value."""

    heading = "network"

    torso: Literal["auto", "mlp", "nature_cnn", "der_cnn", "minatar_cnn", "impala_cnn"] = "auto"
    """Network before the head; auto takes nature_cnn for images from 36x36, minatar_cnn for
    smaller ones, mlp for the rest."""
    features_dim: Int | None = Field(None, ge=0, le=MAX_SIZE)
    """Units of the torso's last layer: 512 (nature_cnn), 256 (der_cnn, impala_cnn), 128
    (minatar_cnn), 0 (mlp); 0 leaves it out."""
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
    normalization: Literal["none", "layer", "batch"] = "none"
    """Layer or batch normalisation of hidden layers and convolutions, before their activation."""
    initializer: InitializerName = "torch"
    """Initial weights."""


class SpectralNorm(Section):
    """The `sn_*` arguments of `sndqn.networks.make_q_network`."""

    heading = "spectral normalisation"

    sn_layers: Annotated[str, BeforeValidator(_selection)] = Field("-2")
    """Weight layers under SN: -2, or -2,-3, all, none, convs, layer names."""
    sn_bound: float | Literal["initial"] = Field(1.0)
    """Value σ is held to, or initial for each layer's own at the start."""
    sn_mode: Literal["normalize", "shrink", "track", "init"] = Field("normalize")
    """normalize scales to the bound, shrink only down to it, track follows σ alone, init scales the
    initial weights to it and leaves them free."""
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


class Learning(Section):
    """Arguments of the algorithms."""

    heading = "learning"

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
    n_atoms: Annotated[Int | None, Of("c51")] = Field(None, gt=1, le=MAX_SIZE)
    """Atoms of c51: 51."""
    v_min: Annotated[float | None, Of("c51")] = Field(None, ge=-1e30, le=1e30)
    """Lowest atom of c51: -10."""
    v_max: Annotated[float | None, Of("c51")] = Field(None, ge=-1e30, le=1e30)
    """Highest atom of c51: 10."""
    n_quantiles: Annotated[Size | None, Of("qr-dqn", "iqn")] = None
    """Quantiles: 200 (qr-dqn), 64 random ones (iqn)."""
    n_target_quantiles: Annotated[Size | None, Of("iqn")] = None
    """Random quantiles of iqn's target: 64."""
    n_acting_quantiles: Annotated[Size | None, Of("iqn")] = None
    """Even quantiles of iqn's Q-values: 32."""
    huber_threshold: Annotated[float | None, Of("qr-dqn", "iqn")] = Field(None, gt=0)
    """Threshold of the quantile Huber loss: 1."""
    gradient_penalty: float = Field(0.0, ge=0)
    """Factor on the squared excess of the slope |∂Q/∂s|; 0 leaves the penalty out."""
    gradient_penalty_threshold: float = Field(1.0, ge=0)
    """Slope |∂Q/∂s| up to which the gradient penalty is zero."""
    gamma: float = Field(0.99, ge=0, le=1)
    """Discount per step."""
    loss: Annotated[Literal["huber", "mse"] | None, Of("dqn")] = None
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
    max_grad_norm: float | None = Field(None, gt=0)
    """Largest norm of the gradient; none clips nothing."""
    overlap: bool = True
    """Whether learning goes on while the environments run."""


class Optimizer(Section):
    """The optimiser and its step size."""

    heading = "optimiser"

    learning_rate: float = Field(2.5e-4, gt=0)
    """Step size of the optimiser."""
    learning_rate_decay: bool = False
    """Whether the learning rate falls linearly to zero over the training."""
    optimizer: Literal["adam", "adamw", "rmsprop", "sgd"] = Field("adam")
    """The optimiser; rmsprop has decay 0.95, sgd no momentum."""
    optimizer_eps: float = Field(1e-8, gt=0)
    """ε of adam, adamw and rmsprop."""
    optimizer_eps_layers: Annotated[
        dict[str, Annotated[float, Field(gt=0)]] | None, BeforeValidator(_by_layers)
    ] = None
    """Another ε for some layers, named as in sn_layers: '-2: 3.2e-4'."""
    weight_decay: float | None = Field(None, ge=0)
    """Decay of all weights and biases, as torch's optimisers have it: decoupled by adamw, added to
    the gradient by the others; none is theirs, 0.01 for adamw and 0 else."""
    rmsprop_centered: bool = True
    """Whether rmsprop subtracts the mean gradient."""
    rmsprop_eps_inside_root: bool = False
    """Whether rmsprop's ε is inside the root, as TensorFlow's."""


class Exploration(Section):
    """Arguments of the algorithms, but for times, which these take as shares of the training."""

    heading = "exploration"

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


class Evaluation(Section):
    """Fields of `sndqn.evaluation.EvaluationProtocol`, with eval_ before them."""

    heading = "evaluation"

    eval_episodes: Int = Field(10, gt=0)
    """Whole episodes of an evaluation."""
    eval_epsilon: float = Field(0.001, ge=0, le=1)
    """Probability of a random action in evaluation."""
    eval_max_steps: Int | None = Field(None, gt=0)
    """Steps after which an evaluation episode is cut; none: the environment's own limit, or 1000
    where it has none."""
    eval_end_hopeless: bool = False
    """End an Atari game in which nothing but a counter has changed on the screen for a minute of
    play. Published protocols do not."""
    eval_seed: Int = Field(1_000, ge=0)
    """Seed of evaluation episodes; equal for all runs, so that agents meet the same games."""


# In the order of the help and of config.yaml.
SECTIONS: tuple[type[Section], ...] = (
    Run,
    Machine,
    Environment,
    Network,
    SpectralNorm,
    Learning,
    Optimizer,
    Exploration,
    Evaluation,
)
SETTINGS = {name: field for section in SECTIONS for name, field in section.model_fields.items()}
# The algorithms that have a setting, for settings that not all have.
OWNERS: dict[str, tuple[AlgorithmName, ...]] = {
    name: marker.algorithms
    for name, field in SETTINGS.items()
    for marker in field.metadata
    if isinstance(marker, Of)
}
