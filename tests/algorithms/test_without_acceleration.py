"""Without `sndqn.acceleration` everything works; asking for speed says what is missing."""

import subprocess
import sys
from pathlib import Path

import pytest
from variants import cartpoles, make

from sndqn.algorithms.acceleration import find_acceleration
from sndqn.errors import ConfigError

HERE = Path(__file__).parent
# A finder that comes first, as if the folder were not there.
ABSENT = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[:2] == ["sndqn", "acceleration"]:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
import pytest
status = pytest.main(sys.argv[1:])
assert not any(name.startswith("sndqn.acceleration") for name in sys.modules)
sys.exit(status)
"""


def test_the_familys_tests_pass_without_the_package() -> None:
    chosen = "saved_model_predicts or looks_on_or_not or held_to_their_bound"
    arguments = ["-q", "-x", "-n", "0", "-p", "no:cacheprovider", "-k", f"({chosen}) and plain"]
    command = [sys.executable, "-c", ABSENT, *arguments, str(HERE / "test_family.py")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-500:]
    assert " passed" in done.stdout


def test_auto_is_eager_without_the_package_and_true_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "sndqn.acceleration", None)
    model = make(("DQN", "plain"), cartpoles(), compile="auto")
    assert not model.will_compile(10**8)
    model.compile = True
    with pytest.raises(ConfigError, match=r"expected the package sndqn\.acceleration"):
        model.will_compile(100)
    with pytest.raises(ConfigError, match="--compile never"):
        make(("DQN", "plain"), cartpoles(), compile=True)


def test_where_torch_lacks_what_acceleration_is_made_of_one_line_says_what_that_costs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in [name for name in sys.modules if name.startswith("sndqn.acceleration")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr("sndqn.acceleration", raising=False)
    monkeypatch.setitem(sys.modules, "sndqn.acceleration.compilation", None)
    with pytest.warns(UserWarning, match=r"without acceleration, and take 1\.2 .*compilation"):
        found = find_acceleration()
    assert found is None
