"""Each algorithm and flag has its page or section, with its settings and their defaults."""

import inspect
import re
from pathlib import Path
from typing import get_args

import pytest

from sndqn import C51, DQN, IQN, QRDQN
from sndqn.algorithms.base import ValueBasedAlgorithm
from sndqn.training.settings import OWNERS, SETTINGS, AlgorithmName, Learning, Network

PAGES = Path(__file__).parent.parent / "docs" / "algorithms"
CLASSES: dict[str, type[ValueBasedAlgorithm]] = {
    "dqn": DQN,
    "c51": C51,
    "qr-dqn": QRDQN,
    "iqn": IQN,
}


def defaults(text: str) -> dict[str, str]:
    """Gives the settings in a page's tables "flag | default", with what stands beside each."""
    found = {}
    for flags, values in re.findall(r"^\| (`--[^|]*) \| ([^|]*) \|", text, re.MULTILINE):
        names = re.findall(r"`--([\w-]+)`", flags)
        for name, value in zip(names, values.split(", "), strict=False):
            found[name.replace("-", "_")] = value.strip("` ")
    return found


@pytest.mark.parametrize("name", get_args(AlgorithmName))
def test_an_algorithm_has_a_page_with_its_own_settings_and_their_defaults(name: str) -> None:
    stated = defaults((PAGES / f"{name}.md").read_text())
    owned = {setting for setting, owners in OWNERS.items() if name in owners}
    assert set(stated) == owned
    parameters = inspect.signature(CLASSES[name].__init__).parameters
    for setting, value in stated.items():
        default = parameters[setting].default
        assert value == default if isinstance(default, str) else float(value) == default


def test_every_flag_has_a_section() -> None:
    text = (PAGES / "flags.md").read_text()
    sections = {heading.lower() for heading in re.findall(r"^## (.*)$", text, re.MULTILINE)}
    flags = {
        setting
        for section in (Network, Learning)
        for setting, field in section.model_fields.items()
        if field.annotation is bool and setting != "overlap"  # which is of the loop
    }
    named = {flag.replace("_", " ").replace("n steps", "n-steps") for flag in flags}
    assert named | {"n-steps", "gradient penalty"} == sections


def test_the_settings_of_flags_have_the_defaults_that_their_page_says() -> None:
    stated = defaults((PAGES / "flags.md").read_text())
    settings = {
        f"{name}_{end}" for name in ("munchausen",) for end in ("scale", "temperature", "clip")
    }
    settings |= {"priority_exponent", "importance_exponent"}
    settings |= {"gradient_penalty", "gradient_penalty_threshold"}
    assert settings <= set(stated)
    for setting in settings:
        assert float(stated[setting]) == SETTINGS[setting].default
