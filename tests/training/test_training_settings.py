"""Each setting is in the configuration and where it acts, under one name and with one meaning."""

import dataclasses
import inspect
from collections.abc import Iterator
from typing import Any, get_args

import pytest

import sndqn
from sndqn.agents.description import HEAD_OF
from sndqn.algorithms.exploration import ExplorationName
from sndqn.envs import AtariSettings, ControlSettings, MinAtarSettings
from sndqn.evaluation import EvaluationProtocol
from sndqn.losses import LossName
from sndqn.networks import NetworkSpec
from sndqn.networks.extractors import TORSOS
from sndqn.networks.heads import HEADS
from sndqn.networks.initializers import InitializerName
from sndqn.networks.normalization import NormalizationName
from sndqn.networks.spec import ACTIVATIONS, SN_ARGUMENTS, SpectralMode
from sndqn.spectral.schedulers import SchedulerForm, SchedulerName
from sndqn.spectral.spectral_layer import ConvNorm
from sndqn.training.build import ALGORITHMS
from sndqn.training.config import TrainConfig
from sndqn.training.settings import (
    OWNERS,
    SECTIONS,
    AlgorithmName,
    Environment,
    Evaluation,
    Exploration,
    Learning,
    Network,
    SpectralNorm,
)

# What the algorithms take in another form: times as shares, and yes, no or "auto".
SHARES = {
    "exploration_warmup_timesteps": "exploration_warmup_fraction",
    "exploration_timesteps": "exploration_fraction",
}
# Arguments that the configuration leaves at their defaults.
FIXED = {"n_cosines"}


def arguments_of(algorithm: type[Any], package: str = "") -> set[str]:
    """The arguments of a class, those of its parents included, as far as they are in a package."""
    found: set[str] = set()
    for parent in algorithm.__mro__:
        if parent.__module__.startswith(package) and "__init__" in vars(parent):
            parameters = inspect.signature(vars(parent)["__init__"]).parameters.values()
            found |= {p.name for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}
    return found - {"self"}


def test_every_setting_has_help_and_one_section() -> None:
    names = [name for section in SECTIONS for name in section.model_fields]
    assert names == list(TrainConfig.model_fields)
    assert all(field.description for field in TrainConfig.model_fields.values())


@pytest.mark.parametrize("algo", ALGORITHMS)
def test_every_argument_of_an_algorithm_is_a_setting(algo: str) -> None:
    settings = {SHARES.get(name, name) for name in TrainConfig.model_fields}
    assert arguments_of(ALGORITHMS[algo], "sndqn.") - FIXED <= settings


@pytest.mark.parametrize("algo", ALGORITHMS)
def test_every_setting_of_learning_is_an_argument_of_the_algorithms_that_have_it(algo: str) -> None:
    settings = [*Learning.model_fields, *Exploration.model_fields]
    expected = {SHARES.get(n, n) for n in settings if algo in OWNERS.get(n, tuple(ALGORITHMS))}
    assert expected <= arguments_of(ALGORITHMS[algo])


def test_a_setting_that_not_all_algorithms_have_is_an_argument_of_its_owners_alone() -> None:
    arguments = {algo: arguments_of(kind, "sndqn.") for algo, kind in ALGORITHMS.items()}
    own = set.union(*arguments.values()) - set.intersection(*arguments.values()) - FIXED
    assert own == set(OWNERS)
    for name, algorithms in OWNERS.items():
        assert set(algorithms) == {algo for algo in ALGORITHMS if name in arguments[algo]}


def test_every_setting_of_an_environment_is_one_of_some_suite_and_the_other_way_round() -> None:
    kinds = (AtariSettings, MinAtarSettings, ControlSettings)
    fields = {field.name for kind in kinds for field in dataclasses.fields(kind)}
    from_the_name = {"game", "env_id", "modules", "wrappers", "arranged"}
    assert set(Environment.model_fields) == fields - from_the_name


def test_every_setting_of_a_network_is_one_of_its_description_and_the_other_way_round() -> None:
    fields = {field.name for field in dataclasses.fields(NetworkSpec)}
    sizes = {name for torso in TORSOS.values() for name in torso.fields}
    assert set(Network.model_fields) - sizes == fields - {
        *("torso_kwargs", "head", "head_kwargs", "spectral")
    }


@pytest.mark.parametrize("algo", ALGORITHMS)
def test_every_number_of_a_head_is_a_setting_of_its_algorithm(algo: str) -> None:
    numbers = set(HEADS[ALGORITHMS[algo].head].fields)
    assert numbers - FIXED == {name for name in numbers if algo in OWNERS.get(name, ())}


def test_every_setting_of_spectral_normalisation_is_an_argument_of_networks() -> None:
    assert set(SpectralNorm.model_fields) == set(SN_ARGUMENTS)


def test_every_field_of_an_evaluations_protocol_is_a_setting() -> None:
    fields = {field.name for field in dataclasses.fields(EvaluationProtocol)}
    assert {f"eval_{name}" for name in fields} == set(Evaluation.model_fields)


def words_of(annotation: Any) -> Iterator[Any]:
    """The literals in a type."""
    for part in get_args(annotation):
        yield from words_of(part) if get_args(part) else [part]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("algo", list(ALGORITHMS)),
        ("torso", ["auto", *(name for name in TORSOS if name != "combined")]),
        ("activation", list(ACTIVATIONS)),
        ("initializer", get_args(InitializerName)),
        ("normalization", get_args(NormalizationName)),
        ("sn_mode", get_args(SpectralMode)),
        ("sn_conv_norm", get_args(ConvNorm)),
        ("sn_scheduler", get_args(SchedulerName)),
        ("sn_scheduler_form", get_args(SchedulerForm)),
        ("exploration", get_args(ExplorationName)),
        ("loss", [*get_args(LossName), type(None)]),
    ],
)
def test_a_setting_takes_the_words_that_are_taken_where_it_acts(name: str, words: Any) -> None:
    assert set(words_of(TrainConfig.model_fields[name].annotation)) == set(words)


def test_every_algorithm_is_in_every_table_of_algorithms() -> None:
    assert set(get_args(AlgorithmName)) == set(ALGORITHMS)
    assert {name: kind.head for name, kind in ALGORITHMS.items()} == HEAD_OF
    assert {kind.__name__ for kind in ALGORITHMS.values()} <= set(sndqn.__all__)
