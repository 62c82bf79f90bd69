import subprocess
import sys

import pytest

import sndqn.evaluation


def test_every_public_name_can_be_imported():
    for name in sndqn.evaluation._MODULE_OF:
        assert getattr(sndqn.evaluation, name).__name__ == name or name == "QFunction"


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = sndqn.evaluation.nothing


def test_importing_the_package_loads_nothing_heavy():
    script = """
import sys
import sndqn.evaluation
from sndqn.evaluation import Trace, read_trace
heavy = {"torch", "gymnasium", "ale_py", "PIL", "pygame", "imageio_ffmpeg"}
print(sorted(heavy & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


def test_showing_needs_no_torch():
    script = """
import sys
import sndqn.evaluation.videos
import sndqn.evaluation.protocol
print({"torch", "stable_baselines3"} & set(sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.strip() == "set()", done.stderr
