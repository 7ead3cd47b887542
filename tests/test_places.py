"""Folders, streams and machines of all kinds: the project works there, or says in one line why not."""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from project import PATIENCE_S, Project

from ablations.commands import about, module_command
from ablations.tracking import Reader, Store, Tracker

pytestmark = pytest.mark.slow  # many commands; .ci/run has them

QUICK = "trainer.epochs=1"
READ_ONLY = 'mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" && exec "$@"'
NO_PROC = 'mount -t tmpfs none /proc && PATH="$0" exec "$@"'
NOBODY = """
import pwd

def getpwuid(uid):
    raise KeyError(uid)

pwd.getpwuid = getpwuid
"""


def at(folder: Path) -> Project:
    """A copy of the project in a folder of this name."""
    (folder / "elsewhere").mkdir(parents=True)
    project = Project(folder / "elsewhere")
    folder /= "project"
    project.root.rename(folder)
    project.root = folder
    return project


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """One with a finished run, in a folder whose name has what ends addresses and begins escapes."""
    project = at(tmp_path_factory.mktemp("places") / "a#b %c & d=e, (f) 数据")
    done = project.run("-m", "activation=relu,tanh", "name=activation", QUICK)
    assert done.returncode == 0, done.stderr
    return project


def through(
    project: Project, command: list[str], *arguments: str, **more: str
) -> subprocess.CompletedProcess:
    return subprocess.run(
        [*command, sys.executable, *arguments],
        cwd=project.elsewhere,
        env={key: value for key, value in (project.environment | more).items() if value},
        capture_output=True,
        text=True,
        errors="replace",
        timeout=PATIENCE_S,
    )


def unshared(script: str, zero: Path) -> list[str]:
    """The beginning of a command that sees mounts of its own."""
    command = ["unshare", "-rm", "sh", "-c"]
    if (
        not shutil.which("unshare")
        or subprocess.run([*command, "mount -t tmpfs none /mnt"], capture_output=True).returncode
    ):
        pytest.skip("mounts cannot be tried here")
    return [*command, script, str(zero)]


def one_line(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode > 0
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr


def test_a_report_of_a_folder_with_such_a_name_has_its_figures(project):
    report = project.root / "reports" / "activation"
    assert len(list((report / "figures").iterdir())) > 5
    assert "has no `" not in (report / "README.md").read_text("utf-8")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (b"a%20b", "a%20b/project/mlruns/mlflow.db: MLflow finds no SQLite file in a folder with ? or %20"),
        (b"a?b", "a?b/project/mlruns/mlflow.db: MLflow finds no SQLite file in a folder with ? or %20"),
        (b"${x}", "${x}/project: Hydra cannot work in a folder with ${ in its name"),
        (b"a\xff", "a\\udcff/project: Hydra cannot work in a folder whose name is not UTF-8"),
    ],
)
def test_a_folder_in_which_it_cannot_work(name, said, tmp_path):
    project = at(tmp_path / os.fsdecode(name))
    assert said in one_line(project.run(QUICK))
    assert not list(project.elsewhere.iterdir())


def test_a_working_directory_that_is_gone(project, tmp_path):
    gone = 'mkdir "$0" && cd "$0" && rmdir "$0" && exec "$@"'
    done = through(project, ["sh", "-c", gone, str(tmp_path / "gone")], str(project.root / "run.py"), QUICK)
    assert one_line(done) == "error: the working directory does not exist any more; change into another one\n"


def test_a_project_that_cannot_be_written_to(project):
    done = through(project, unshared(READ_ONLY, project.root), str(project.root / "run.py"), QUICK)
    assert "error: cannot write " in one_line(done)
    assert "Read-only file system" in done.stderr


@pytest.mark.parametrize(
    ("redirection", "arguments", "code"),
    [
        (">&-", ["activation=relu"], 0),
        (">&- 2>&- <&-", ["activation=relu"], 0),
        (">/dev/full", ["activation=relu"], 2),
        (">/dev/full", ["-m", "activation=relu,tanh"], 2),
    ],
)
def test_a_stdout_that_takes_nothing(redirection, arguments, code, project):
    """Without PYTHONUNBUFFERED, as a newcomer has it."""
    shell = ["sh", "-c", f'exec "$@" {redirection}', "sh"]
    done = through(project, shell, str(project.root / "run.py"), *arguments, QUICK, PYTHONUNBUFFERED="")
    error = "error: cannot write the output: No space left on device\n" if code else ""
    assert (done.returncode, done.stderr) == (code, error)


def test_workers_whose_stdout_is_closed(project):
    overrides = ["-m", "pool=max,avg", "name=pool", "hydra/launcher=joblib", QUICK]
    done = through(project, ["sh", "-c", 'exec "$@" >&-', "sh"], str(project.root / "run.py"), *overrides)
    assert (done.returncode, done.stderr) == (0, "")
    assert list(project.runs("pool")["status"]) == ["FINISHED"] * 2


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_a_terminal_with_few_characters(encoding, project):
    for module in ("ablations.report", "ablations.describe"):
        done = through(project, [], "-m", module, PYTHONIOENCODING=encoding)
        assert (done.returncode, done.stderr) == (0, "")


def test_a_user_without_home_or_name(project, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(NOBODY)
    more = {"HOME": "", "USER": "", "LOGNAME": "", "PYTHONPATH": f"{project.root}:{tmp_path}"}
    done = through(project, [], str(project.root / "run.py"), QUICK, "seed=1", **more)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_machine_without_proc_and_ps(project, tmp_path):
    overrides = ["-m", "seed=2,3", "hydra/launcher=joblib", QUICK]
    done = through(project, unshared(NO_PROC, tmp_path), str(project.root / "run.py"), *overrides)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_clock_that_was_set_back(tmp_path, monkeypatch):
    store = Store(f"sqlite:///{tmp_path}/mlflow.db")
    tracker = Tracker.start(store, "lenet5", "run", {}, {})
    monkeypatch.setattr("ablations.tracking.writer._now_ms", lambda: 1_000)
    tracker.finish()
    assert Reader(store).runs()["seconds"].isna().all()


@pytest.mark.parametrize(
    "name", ["pool", "", "-x", "--check", "a b'c", "a\nb", "-\x1b[2J", "激活", "\udcff0"]
)
def test_a_name_is_printed_as_it_can_be_typed(name):
    shown = module_command("ui", *about(name)).removeprefix("python -m ablations.ui ")
    assert shown.isprintable()
    code = "import argparse, os, sys; p = argparse.ArgumentParser(); p.add_argument('name'); "
    code += "sys.stdout.buffer.write(os.fsencode(p.parse_args().name))"
    command = ["bash", "-c", f"{shlex.quote(sys.executable)} -c {shlex.quote(code)} {shown}"]
    assert os.fsdecode(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout) == name
