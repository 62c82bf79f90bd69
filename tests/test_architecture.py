"""The rules of docs/design.md that the source shows: who imports whom, and what none may."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import sndqn

ROOT = Path(sndqn.__file__).parent
# From the top down; what stands in one tuple stands side by side.
ORDER = [
    ("cli", "api"),
    ("study",),
    ("training",),
    ("agents", "contrib"),
    ("algorithms",),
    ("acceleration",),
    ("policies", "evaluation", "replay"),
    ("diagnostics",),
    ("networks", "envs", "runs"),
    ("spectral", "targets", "losses", "optimizers", "console"),
    ("files",),
    ("errors",),
]
HEIGHT = {unit: -level for level, units in enumerate(ORDER) for unit in units}
CODE_READERS = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(ROOT.rglob("*.py"))}


def imports(name: str, path: Path) -> Iterator[str]:
    """Gives the full name of every module or object a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = name if path.name == "__init__.py" else name.rpartition(".")[0]
            for _ in range(node.level - 1):
                package = package.rpartition(".")[0]
            base = ".".join(filter(None, [package if node.level else "", node.module or ""]))
            yield from (f"{base}.{alias.name}" for alias in node.names)


def unit(name: str) -> str:
    """The first part under sndqn: `sndqn.spectral.norms.unit` belongs to `spectral`."""
    return name.split(".")[1]


INNER = [name for name in MODULES if name != "sndqn"]


def test_every_module_has_its_place_in_the_order() -> None:
    assert {unit(name) for name in INNER} <= set(HEIGHT)


@pytest.mark.parametrize("name", INNER)
def test_imports_point_down_only(name: str) -> None:
    own = unit(name)
    for target in imports(name, MODULES[name]):
        if target.split(".")[0] != "sndqn" or target == "sndqn.__version__":
            continue
        other = unit(target)
        if other == own:
            continue
        assert own in HEIGHT, f"{name} has no place in the order"
        assert other in HEIGHT, f"{name} imports {target}, which the order does not know"
        assert HEIGHT[own] > HEIGHT[other], f"{name} must not import {target}"


def test_one_module_imports_what_exists_for_speed_alone_and_does_so_late() -> None:
    door = "sndqn.algorithms.acceleration"
    for name, path in MODULES.items():
        if unit(name + ".") == "acceleration":
            continue
        found = [t for t in imports(name, path) if t.startswith("sndqn.acceleration")]
        assert not found or name == door, name
    body = ast.parse(MODULES[door].read_text()).body
    (late,) = (node for node in body if "import sndqn" in ast.unparse(node))
    assert isinstance(late, ast.FunctionDef)


FOR_SPEED = re.compile(
    r"traced|tracing|make_fx|inductor|compiler|compiled|captured|CUDA graph|onednn|mallopt", re.I
)
# A question to torch, a name in checkpoints, and what asks the door.
ALLOWED = ("torch.compiler.is_compiling()", 'data["compiled"]', "found.compiler_available()")


@pytest.mark.parametrize("name", INNER)
def test_algorithms_and_mathematics_do_not_mention_how_they_are_made_fast(name: str) -> None:
    plain = ("spectral", "networks", "policies", "algorithms", "targets", "losses")
    if unit(name) not in plain or name == "sndqn.algorithms.acceleration":
        return
    text = MODULES[name].read_text()
    for allowed in ALLOWED:
        text = text.replace(allowed, "")
    assert not FOR_SPEED.findall(text)


@pytest.mark.parametrize("name", INNER)
def test_the_mathematics_knows_no_framework(name: str) -> None:
    parts_of_networks = name.startswith(("sndqn.networks.torsos", "sndqn.networks.heads"))
    if unit(name) not in ("spectral", "targets", "losses") and not parts_of_networks:
        return
    strangers = {"stable_baselines3", "sb3_contrib", "gymnasium", "gym"}
    assert not strangers & {target.split(".")[0] for target in imports(name, MODULES[name])}


def safe_loaders(path: Path) -> set[str]:
    """The YAML loaders a file may use: the safe one and its own children of it."""
    safe = {"yaml.SafeLoader", "yaml.CSafeLoader"}
    own = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ClassDef)]
    return safe | {node.name for node in own if safe & {ast.unparse(b) for b in node.bases}}


@pytest.mark.parametrize("name", MODULES)
def test_nothing_reads_a_file_that_can_run_code(name: str) -> None:
    path = MODULES[name]
    assert not CODE_READERS & {target.split(".")[0] for target in imports(name, path)}
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Call):
            continue
        called, where = ast.unparse(node.func), f"{name}:{node.lineno}"
        keywords = {k.arg: ast.unparse(k.value) for k in node.keywords}
        assert called not in ("eval", "exec", "compile", "__import__", "os.system"), where
        imports_a_name = called.rpartition(".")[2] == "import_module"
        if imports_a_name and name != "sndqn.envs.user_code":  # which knows what a person typed
            # The lazy names of a package: from a table in its source, by no other word.
            assert path.name == "__init__.py", where
            assert "[name]" in ast.unparse(node.args[0]), where
        assert called not in ("yaml.full_load", "yaml.unsafe_load"), where
        if called == "yaml.load":
            assert keywords.get("Loader", ast.unparse(node.args[-1])) in safe_loaders(path), where
        if called in ("torch.load", "th.load"):
            assert keywords.get("weights_only") == "True", where
        assert keywords.get("allow_pickle", "False") == "False", where
        assert keywords.get("shell", "False") == "False", where


def test_training_alone_knows_the_configuration() -> None:
    """It unpacks one into arguments; others pass one on at most."""
    for name, path in MODULES.items():
        named = {target.rpartition(".")[2] for target in imports(name, path)}
        # The Python interface shows a run's own.
        knows = unit(name + ".") in ("training", "api")
        assert knows or "TrainConfig" not in named, name


def test_no_reader_of_files_imports_what_a_person_typed() -> None:
    """Consent is given where one types: the command line, and a name handed to `resolve_env`."""
    consenting = {"sndqn.api", "sndqn.cli.options", "sndqn.envs", "sndqn.envs.names"}
    for name, path in MODULES.items():
        named = {target.rpartition(".")[2] for target in imports(name, path)}
        assert name in consenting or not named & {"import_typed", "use_wrapper"}, name


def loaded_after(statement: str) -> set[str]:
    """The top-level packages in a fresh interpreter after a statement."""
    code = f"{statement}; import sys; print(*{{name.split('.')[0] for name in sys.modules}})"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


@pytest.mark.parametrize("module", ["sndqn", "sndqn.cli"])
def test_importing_the_command_line_does_not_import_torch(module: str) -> None:
    heavy = {"torch", "gymnasium", "stable_baselines3", "ale_py"}
    assert not heavy & loaded_after(f"import {module}")


def test_the_heart_needs_torch_alone() -> None:
    loaded = loaded_after("import sndqn.spectral")
    assert "torch" in loaded
    assert not {"gymnasium", "stable_baselines3", "ale_py", "pydantic"} & loaded


def test_every_public_name_loads() -> None:
    for name in sndqn.__all__:
        assert getattr(sndqn, name) is not None
    assert set(sndqn.__all__) <= set(dir(sndqn))
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        sndqn.nonsense  # noqa: B018


def test_every_package_is_in_the_wheel() -> None:
    with (ROOT.parent / "pyproject.toml").open("rb") as file:
        listed = set(tomllib.load(file)["tool"]["setuptools"]["packages"])
    found = {module_name(path) for path in ROOT.rglob("__init__.py")}
    assert found <= listed
