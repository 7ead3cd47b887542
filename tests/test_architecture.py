"""The rooms of the house: who may know whom, what each half can do without, and how large a room may grow."""

import ast
import os
import shutil
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
from importlinter.cli import lint_imports
from project import PATIENCE_S

from ablations.ground.paths import ROOT

PACKAGE = ROOT / "ablations"
MOST_ENTRIES = 18
MOST_LINES = {"module": 500, "function": 60}

TRAINING_HALF = ("nn", "datasets", "training", "predict", "experiment", "sweep")
COMPARING_HALF = (
    "comparison",
    "report",
    *(
        f"plots/{name}.py"
        for name in (
            "curves",
            "disagreements",
            "effects",
            "factors",
            "ladder",
            "secondary",
            "sizes",
            "values",
        )
    ),
)  # what is left of plots/ draws a run's own pictures


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): ast.parse(path.read_text("utf-8")) for path in sorted(PACKAGE.rglob("*.py"))}


def imports(module: str) -> set[str]:
    """Full names of the modules that a module imports, at its top or later."""
    found = set()
    for node in ast.walk(MODULES[module]):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: imports are absolute"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                found.add(whole if whole in MODULES else node.module)
    return found


def test_imports_point_one_way(monkeypatch, capsys):
    """The contracts are in pyproject.toml; `lint-imports` says them aloud."""
    monkeypatch.chdir(ROOT)
    assert lint_imports(no_cache=True) == 0, capsys.readouterr().out


def test_nothing_imports_in_circles():
    graph = {m: {name for name in imports(m) if name in MODULES and name != m} for m in MODULES}
    tuple(TopologicalSorter(graph).static_order())


def test_the_house_has_few_rooms():
    own = [
        path.stem for path in PACKAGE.iterdir() if path.name not in ("__init__.py", "__pycache__", "py.typed")
    ]
    assert len(own) <= MOST_ENTRIES, sorted(own)
    for room in (path for path in PACKAGE.iterdir() if (path / "__init__.py").exists()):
        opening = ast.get_docstring(MODULES[f"ablations.{room.name}"]) or ""
        assert len(opening) > 100, f"{room.name}: say what comes in, what goes out, whom it knows"


@pytest.mark.parametrize("module", MODULES)
def test_rooms_and_functions_can_be_read(module):
    lines = MODULES[module].body[-1].end_lineno if MODULES[module].body else 0
    assert lines <= MOST_LINES["module"]
    for node in ast.walk(MODULES[module]):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno - node.lineno < MOST_LINES["function"], f"{module}.{node.name}"


# Either half can do without the other


def half(folder: Path, without: tuple[str, ...]) -> list[str]:
    """Copy the project without some rooms; the names of the modules that are left."""
    for name in ("conf", "ablations", "hydra_plugins"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "run.py", folder)
    for name in without:
        room = folder / "ablations" / name
        room.unlink() if room.is_file() else shutil.rmtree(room)
    gone = [f"ablations.{name.removesuffix('.py').replace('/', '.')}" for name in without]
    return [name for name in MODULES if not any(f"{name}.".startswith(f"{each}.") for each in gone)]


def python(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"}
    environment["PYTHONPATH"] = str(folder)
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )


def test_what_trains_works_where_nothing_compares(tmp_path):
    left = half(tmp_path, COMPARING_HALF)
    done = python(tmp_path, "-c", f"import {', '.join(left)}")
    assert done.returncode == 0, done.stderr
    done = python(tmp_path, "run.py", "trainer.epochs=1")
    assert done.returncode == 0, done.stderr
    assert "test accuracy" in done.stdout


def test_what_compares_works_where_nothing_trains(tmp_path):
    commands = ["ablations.describe", "ablations.export_images"]  # of networks and data sets
    left = [name for name in half(tmp_path, TRAINING_HALF) if name not in commands]
    done = python(tmp_path, "-c", f"import {', '.join(left)}")
    assert done.returncode == 0, done.stderr
    (tmp_path / "reports").mkdir()
    shutil.copytree(ROOT / "reports" / "activation_x_pool", tmp_path / "reports" / "activation_x_pool")
    done = python(tmp_path, "-m", "ablations.report", "--check", "activation_x_pool")
    assert done.returncode == 0, done.stderr


# Habits


@pytest.mark.parametrize("module", MODULES)
def test_the_global_random_generator_is_never_used(module):
    allowed = {"Generator", "SeedSequence", "default_rng"}
    for node in ast.walk(MODULES[module]):
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) in ("np.random", "numpy.random"):
            assert node.attr in allowed, f"{module}:{node.lineno}: np.random.{node.attr}"
    assert "random" not in imports(module)


def test_columns_are_spelled_in_one_place():
    for module, tree in MODULES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                spelled = node.value.startswith(("params.", "metrics.", "tags."))
                assert not spelled or module == "ablations.tracking.columns", f"{module}:{node.lineno}"


def test_run_py_only_hands_on():
    tree = ast.parse((ROOT / "run.py").read_text("utf-8"))
    names = {
        alias.name if isinstance(node, ast.Import) else node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    assert names == {"hydra", "omegaconf", "ablations.commands", "ablations.sweep.command_line"}


@pytest.mark.parametrize(
    "module",
    [
        "run",
        "ablations.__main__",
        "ablations.sweep",
        "ablations.report.__main__",
        "ablations.describe",
        "ablations.predict.__main__",
        "ablations.ui",
        "ablations.sync",
        "ablations.export_images",
    ],
)
def test_heavy_imports_wait_until_they_are_needed(module):
    """`--help` and tab completion answer at once."""
    heavy = "mlflow", "seaborn", "matplotlib", "pandas", "scipy.stats", "sklearn", "sqlalchemy", "torch"
    code = f"import sys, {module}; print(*[name for name in {heavy} if name in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert run.stdout.split() == []
