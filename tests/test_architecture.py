"""Imports point one way (the design's architecture): each line below is one rule.

conf/ → experiment → network → training → tracking → (the store) → statistics → plots → report → reports/
"""

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from ablations.paths import ROOT

PACKAGE = ROOT / "ablations"

# Whom a module may import of this package; a name stands for a folder, too. Every module must be listed.
MAY_IMPORT = {
    "signals": set(),
    "errors": {"signals"},
    "paths": set(),
    "streams": set(),
    "images": {"errors"},
    "datasets": {"datasets", "errors", "images"},
    "distortions": set(),
    "nn": {"errors", "nn"},
    "optimizers": {"errors"},
    "training": {"datasets", "errors", "nn", "optimizers", "streams"},
    "model": {"datasets", "errors", "nn", "streams"},
    "serving": {"model"},
    "artifacts": {"model", "tracking"},
    "digit_image": {"errors"},
    "checkpoints": {"errors", "training"},
    "resume": {"checkpoints", "tracking"},
    "progress": {"training"},
    "terminal": set(),
    "provenance": {"paths"},
    "tracking": {"errors", "paths", "tracking"},
    "comparison": {"comparison", "errors", "tracking"},
    "plots": {"comparison", "plots", "tracking"},
    "markdown": set(),
    "report": {
        "comparison",
        "errors",
        "markdown",
        "paths",
        "plots",
        "report",
        "tracking",
    },
    "views": {"errors", "tracking"},
    "ui": {"errors", "tracking", "views"},
    "sync": {"errors", "tracking"},
    "plan": {"errors"},
    # drives the runs of a sweep, and compiles the report after the last
    "sweep": {
        "datasets",
        "errors",
        "experiment",
        "markdown",
        "plan",
        "report",
        "progress",
        "tracking",
        "training",
        "views",
    },
    "describe": {"errors", "model", "nn", "paths", "streams"},
    "predict": {"artifacts", "digit_image", "errors", "images", "model", "plots", "tracking"},
    "export_images": {"datasets", "errors", "paths"},
    "experiment": {  # the only assembler; draws a run's own figures
        "artifacts",
        "checkpoints",
        "datasets",
        "distortions",
        "errors",
        "model",
        "nn",
        "optimizers",
        "paths",
        "plots",
        "progress",
        "provenance",
        "resume",
        "signals",
        "streams",
        "terminal",
        "tracking",
        "training",
    },
}

# Who may import a third-party package at run time.
ONLY_IN = {
    "mlflow": {"serving", "tracking"},  # MLflow itself runs serving
    "seaborn": {"plots"},
    "matplotlib": {"plots", "report"},  # a report holds figures, but draws none
    "hydra": {"experiment", "model", "sweep", "describe", "export_images"},
    "omegaconf": {"artifacts", "experiment", "model", "sweep"},
    "torch": set(),
    "jax": set(),
    "numba": set(),
}


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): ast.parse(path.read_text("utf-8")) for path in sorted(PACKAGE.rglob("*.py"))}


def part_of(module: str) -> str:
    """ablations.nn.dense → nn."""
    return module.split(".")[1] if "." in module else ""


def statements(node: ast.AST, typing_too: bool) -> Iterator[ast.AST]:
    """Every node, inside functions too; those for type checkers alone where asked for."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING") and not typing_too:
            continue
        yield child
        yield from statements(child, typing_too)


def imports(module: str, typing_too: bool = True) -> set[str]:
    """Full names of the modules that a module imports, at its top or later."""
    found = set()
    for node in statements(MODULES[module], typing_too):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: imports are absolute"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                found.add(whole if whole in MODULES else node.module)
    return found


@pytest.mark.parametrize("module", sorted(MODULES.keys() - {"ablations"}))
def test_imports_point_one_way(module):
    part = part_of(module)
    assert part in MAY_IMPORT, f"{module}: say in MAY_IMPORT what it may import"
    own = {part_of(name) for name in imports(module) if name.split(".")[0] == "ablations"}
    assert own <= MAY_IMPORT[part], f"{module} imports {own - MAY_IMPORT[part]}"


def test_every_rule_is_about_a_module_that_exists():
    assert set(MAY_IMPORT) <= {part_of(module) for module in MODULES}


def test_nothing_imports_in_circles():
    graph = {m: {name for name in imports(m) if name in MODULES and name != m} for m in MODULES}
    tuple(TopologicalSorter(graph).static_order())


@pytest.mark.parametrize("module", MODULES)
def test_third_party_packages_stay_where_they_belong(module):
    for name in imports(module, typing_too=False):
        package = name.split(".")[0]
        assert part_of(module) in ONLY_IN.get(package, {part_of(module)}), f"{module} imports {name}"


def test_the_halves_meet_in_the_store_alone():
    """What trains and what compares import nothing of each other, not even by a detour through other modules."""
    training = {
        "checkpoints",
        "datasets",
        "distortions",
        "experiment",
        "nn",
        "optimizers",
        "streams",
        "training",
    }

    def reached(module: str, seen: set[str]) -> set[str]:
        for name in imports(module) & MODULES.keys() - seen:
            seen.add(name)
            reached(name, seen)
        return seen

    for module in MODULES:
        if part_of(module) in (
            "comparison",
            "plots",
            "markdown",
            "report",
            "ui",
            "sync",
            "views",
            "tracking",
        ):
            assert not {part_of(name) for name in reached(module, set())} & training, module
        if part_of(module) in training - {"experiment"}:
            assert not {part_of(name) for name in reached(module, set())} & {
                "comparison",
                "plots",
                "report",
                "tracking",
            }, module


def test_a_runs_own_pictures_know_nothing_of_comparisons():
    needed = ["ablations.plots.run", "ablations.plots.style"]
    for module in needed:  # grows on the way
        needed += sorted(imports(module) & MODULES.keys() - set(needed))
    assert {part_of(module) for module in needed} == {"plots"}
    assert {name for name in imports("ablations.experiment") if name.startswith("ablations.plots")} <= set(
        needed
    )


def test_prefixes_of_columns_are_spelled_in_one_place():
    for module, tree in MODULES.items():
        if part_of(module) in ("comparison", "plots", "report"):
            texts = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
            assert not [text for text in texts if str(text).startswith(("params.", "metrics.", "tags."))], (
                module
            )


@pytest.mark.parametrize("module", MODULES)
def test_the_global_random_generator_is_never_used(module):
    allowed = {"Generator", "SeedSequence", "default_rng"}
    for node in ast.walk(MODULES[module]):
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) in ("np.random", "numpy.random"):
            assert node.attr in allowed, f"{module}:{node.lineno}: np.random.{node.attr}"
    assert "random" not in imports(module)


def test_a_model_brings_along_all_that_it_imports():
    from ablations.model import MODULES as copied

    needed = ["ablations.model"]
    for module in needed:  # grows on the way
        needed += sorted(imports(module) & MODULES.keys() - set(needed))
    needed = {part_of(module) for module in needed}
    assert {Path(name).stem for name in copied} - {"__init__"} == needed - {""}


def test_run_py_only_hands_on():
    tree = ast.parse((ROOT / "run.py").read_text("utf-8"))
    names = {
        alias.name if isinstance(node, ast.Import) else node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    assert names == {"hydra", "omegaconf", "ablations.errors", "ablations.experiment"}


@pytest.mark.parametrize(
    "module",
    [
        "run",
        "ablations.sweep",
        "ablations.report",
        "ablations.describe",
        "ablations.predict",
        "ablations.ui",
        "ablations.sync",
        "ablations.export_images",
    ],
)
def test_heavy_imports_wait_until_they_are_needed(module):
    """`--help` and tab completion answer at once."""
    heavy = "mlflow", "seaborn", "matplotlib", "pandas", "scipy.stats", "sklearn", "sqlalchemy", "torch"
    code = f"import sys, {module}; print(*[name for name in {heavy} if name in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr
    assert run.stdout.split() == []
