"""The project as a package: a wheel in an environment of its own, started from a folder that is the user's."""

import os
import random
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from project import PATIENCE_S

from ablations import __main__ as commands
from ablations.ground import paths
from ablations.ground.paths import ROOT
from ablations.tracking import Store, Tracker

CARD = ["-m", "activation=relu,tanh", "pool=max,avg", "trainer.epochs=1"]
OF_TRAINING = ("hydra", "omegaconf", "hydra_plugins", "joblib_launcher", "antlr4", "threadpoolctl", "tqdm")
HIDDEN = f"""
import sys
sys.modules |= dict.fromkeys({OF_TRAINING})
from ablations.__main__ import main
main()
"""


class Package:
    """An environment with the wheel and, from where the tests run, what it depends on; and an empty folder."""

    def __init__(self, folder: Path) -> None:
        source, self.environment, self.home = folder / "source", folder / "environment", folder / "Über uns 1"
        self.home.mkdir()
        ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
        for name in ("ablations", "conf", "hydra_plugins"):
            shutil.copytree(ROOT / name, source / name, ignore=ignored)
        for name in ("run.py", "setup.py", "pyproject.toml", "README.md", "LICENSE"):
            shutil.copy(ROOT / name, source)
        _done(sys.executable, "-m", "venv", "--without-pip", str(self.environment))
        self.python = self.environment / "bin" / "python"
        (self.packages / "outer.pth").write_text(sysconfig.get_path("purelib"), "utf-8")
        pip, alone = [sys.executable, "-m", "pip"], ["--no-deps", "--no-index"]
        _done(*pip, "wheel", "-q", *alone, "--no-build-isolation", "-w", str(folder), str(source))
        (wheel,) = folder.glob("*.whl")
        _done(*pip, "--python", str(self.python), "install", "-q", *alone, "--ignore-installed", str(wheel))

    @property
    def packages(self) -> Path:
        return next((self.environment / "lib").glob("python*/site-packages"))

    def content(self) -> set[Path]:
        return {path for path in self.environment.rglob("*") if "__pycache__" not in path.parts}

    def __call__(self, *words: str, folder: str = "", code: int = 0, **more: str) -> str:
        """What `ablations …` prints, on stderr where it ends with another code than 0."""
        return self.run(str(self.environment / "bin" / "ablations"), *words, folder=folder, code=code, **more)

    def run(self, *command: str, folder: str = "", code: int = 0, **more: str) -> str:
        done = subprocess.run(
            command,
            cwd=self.home / folder,
            env=_environment() | more,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
        )
        assert done.returncode == code, done.stderr
        return done.stderr if code else done.stdout


def _environment() -> dict[str, str]:
    unset = {"MLFLOW_TRACKING_URI", "PYTHONPATH", "ABLATIONS_HOME", "ABLATIONS_OUTBOX", "HYDRA_FULL_ERROR"}
    return {key: value for key, value in os.environ.items() if key not in unset} | {
        "PYTHONDONTWRITEBYTECODE": "1"
    }


def _done(*command: str) -> None:
    done = subprocess.run(command, env=_environment(), capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    return Package(tmp_path_factory.mktemp("package"))


@pytest.fixture(scope="module")
def installed(package):
    """What is in the environment before anything is run."""
    return package.content()


@pytest.fixture(scope="module")
def foreign(tmp_path_factory):
    """The store of another program."""
    store, draw = Store(f"sqlite:///{tmp_path_factory.mktemp('foreign')}/mlflow.db"), random.Random(0)
    for seed in range(3):
        for arch in ("x", "y"):
            tracker = Tracker.start(store, "e", f"{arch}{seed}", {"arch": arch, "seed": seed}, {})
            tracker.log_metrics({"acc": 0.9 + draw.gauss(0, 0.002)}, 1)
            tracker.finish()
    return store


@pytest.mark.slow
def test_the_card_from_an_empty_folder(package, installed):
    said = package("run", *CARD)
    name = "activation-pool,trainer.epochs=1"
    assert f"report: {package.home / 'reports' / name / 'README.md'}\n" in said
    assert f"look at the runs: ablations ui {name}\n" in said
    page = (package.home / "reports" / name / "README.md").read_text("utf-8")
    assert f"ablations run {' '.join(CARD)}" in page
    assert f"ablations report {name}" in page
    assert "run.py" not in page
    assert "python -m" not in page
    assert sorted(path.name for path in package.home.iterdir()) == ["mlruns", "reports"]
    assert package.content() == installed


@pytest.mark.slow
def test_a_report_of_others_without_what_trains(package, installed, foreign):
    words = [
        "report",
        "--tracking-uri",
        foreign.uri,
        "--experiment",
        "e",
        "--factors",
        "arch",
        "--metric",
        "acc",
    ]
    said = package.run(str(package.python), "-c", HIDDEN, *words)
    assert f"report: {package.home / 'reports' / 'e' / 'README.md'}\n" in said
    assert "ablations report --tracking-uri" in (package.home / "reports" / "e" / "README.md").read_text(
        "utf-8"
    )
    assert "ablations ui [-h]" in package.run(str(package.python), "-c", HIDDEN, "ui", "--help")
    assert package.content() == installed


@pytest.mark.slow
def test_choices_and_studies_of_ones_own(package, installed):
    """What docs/extending.md shows, from a folder below the one with conf/."""
    for name in ("conf/activation", "conf/study", "below"):
        (package.home / "own" / name).mkdir(parents=True)
    conf = package.home / "own" / "conf"
    (conf / "activation" / "steep.yaml").write_text("_target_: ablations.nn.activations.Tanh\n")
    study = "# @package _global_\nname: mine\nhydra: {mode: MULTIRUN}\nstudy:\n  factors: {activation: [relu, steep]}\n"
    (conf / "study" / "mine.yaml").write_text(study)
    assert "2 runs" in package("run", "+study=mine", "dry_run=true", folder="own/below")
    assert "61,706" in package("describe", "activation=steep", folder="own/below")
    assert "steep" in package("complete", "ablations run activation=st", folder="own")
    (conf / "activation" / "relu.yaml").write_text("_target_: ablations.nn.activations.Tanh\n")
    error = package("run", folder="own", code=2)
    assert error.startswith(f"error: {conf}/activation/relu.yaml: there is a choice of this name already")
    assert not any((package.home / "own" / "below").iterdir())
    assert package.content() == installed


# The commands


def test_help_is_one_screen_and_names_every_command(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["ablations", "--help"])
    commands.main()
    said = capsys.readouterr().out
    assert said.count("\n") < 24
    assert max(map(len, said.splitlines())) <= 120
    assert all(f"\n  {name} " in said for name in commands.COMMANDS)


def test_a_command_that_does_not_exist(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["ablations", "reprot"])
    with pytest.raises(SystemExit) as stop:
        commands.main()
    assert stop.value.code == 2
    accepted = "run, report, ui, predict, describe, sync, export-images"
    assert capsys.readouterr().err == f"error: 'reprot': there is no such command; accepted: {accepted}\n"


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("ablations r", ["run ", "report "]),
        ("ablations run pool=a", ["pool=avg"]),
        ("ablations run pool=avg trainer.ep", ["trainer.epochs="]),
        ("ablations describe c3=s", ["c3=sparse"]),
        ("ablations report --tr", ["--tracking-uri "]),
        ("ablations export-images --l", ["--limit "]),
        ("ablations predict best sev", []),
        ("ablations completion f", ["fish"]),
    ],
)
def test_tab_completion(line, found):
    assert commands.completions(line) == found


def test_the_scripts_of_shells_complete(tmp_path):
    """bash takes its script and shows what the command says; the others' need their shells."""
    (tmp_path / "ablations").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m ablations "$@"\n')
    (tmp_path / "ablations").chmod(0o755)
    line, show = "ablations run pool=a", '_ablations; echo "${COMPREPLY[@]}"'
    script = f'{commands.SCRIPTS["bash"]}\nCOMP_LINE="{line}" COMP_POINT={len(line)}\n{show}'
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(["bash", "-c", script], env=environment, capture_output=True, text=True)
    assert done.stdout == "pool=avg\n", done.stderr


# The project folder


@pytest.fixture
def as_package(monkeypatch, tmp_path):
    """As if the code were installed, with nothing in the environment."""
    monkeypatch.setattr(paths, "CLONE", False)
    monkeypatch.delenv("ABLATIONS_HOME", raising=False)
    (tmp_path / "a" / "b").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "a" / "b")
    return tmp_path


def test_the_project_folder_of_a_package_is_the_working_directory(as_package):
    assert paths.project_folder() == as_package / "a" / "b"


@pytest.mark.parametrize("marker", ["ablations.yaml", "conf/"])
def test_or_the_nearest_folder_that_is_marked(marker, as_package):
    for folder in (as_package, as_package / "a"):
        (folder / marker).mkdir() if marker.endswith("/") else (folder / marker).touch()
    assert paths.project_folder() == as_package / "a"


def test_or_the_one_that_is_named(as_package, monkeypatch):
    (as_package / "conf").mkdir()
    monkeypatch.setenv("ABLATIONS_HOME", "elsewhere")
    assert paths.project_folder() == as_package / "a" / "b" / "elsewhere"
    monkeypatch.setattr(paths, "CLONE", True)
    assert paths.project_folder() == as_package / "a" / "b" / "elsewhere"


def test_that_of_a_clone_is_the_clone(as_package, monkeypatch):
    (as_package / "conf").mkdir()
    monkeypatch.setattr(paths, "CLONE", True)
    assert paths.project_folder() == ROOT
