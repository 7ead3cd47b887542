"""What belongs together and what does not, from the command line on: names, reports, dry runs, printed commands."""

import os
import re
import shlex
import signal
import subprocess
import sys

import pytest
from project import PATIENCE_S, Project

pytestmark = pytest.mark.slow  # many commands; .ci/run has them

QUICK = "trainer.epochs=1"
SWEEP = ["-m", "pool=max,avg", "name=激活函数"]


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return Project(tmp_path_factory.mktemp("same"))


@pytest.fixture(scope="module")
def uri(project):
    """A store elsewhere, in a folder whose name needs quotes."""
    return f"tracking.uri='sqlite:///{project.elsewhere.parent}/my store/数据.db'"


@pytest.fixture(scope="module")
def swept(project, uri):
    done = project.run(*SWEEP, QUICK, uri)
    assert done.returncode == 0, done.stderr
    return done.stdout


def printed(text: str, label: str) -> list[str]:
    """The words of the command that is printed behind a label."""
    python, *words = shlex.split(re.search(rf"^{label}: *(python .*)$", text, re.M)[1])
    assert python == "python"
    return words


def first_lines(project: Project, words: list[str], count: int) -> list[str]:
    """What `ablations.ui` prints first, on any free port."""
    process = subprocess.Popen(
        [sys.executable, *words, "--port", "0"],
        cwd=project.elsewhere,
        env=project.environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        return [process.stdout.readline() for _ in range(count)]
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=PATIENCE_S)


def test_the_report_is_in_the_folder_of_its_name_and_the_printed_commands_work(project, uri, swept):
    report = project.root / "reports" / "激活函数" / "README.md"
    assert f"report: {report}\n" in swept
    assert first_lines(project, printed(swept, "look at the runs"), 1) == ["sweep 激活函数, 2 runs:\n"]
    again = report.read_text("utf-8")
    commands = re.findall(r"^python (-m ablations\.report .*)$", again, re.M)
    assert commands
    done = project.python(*shlex.split(commands[0]))
    assert done.returncode == 0, done.stderr
    assert report.read_text("utf-8") == again
    assert printed(done.stdout, "runs") == printed(swept, "look at the runs")


def test_a_single_run_is_what_its_command_shows(project, uri, swept):
    done = project.run("pool=avg", QUICK, uri)
    assert done.returncode == 0, done.stderr
    run_id = re.search(r"^run (\w+) in", done.stdout, re.M)[1]
    words = printed(done.stdout, "look at it")
    assert words[:3] == ["-m", "ablations.ui", run_id]
    head, address = first_lines(project, words, 2)
    assert head == "the run:\n"
    assert address.strip().endswith(f"/runs/{run_id}")


def test_a_name_is_not_used_for_other_settings(project, uri, swept):
    report = project.root / "reports" / "激活函数"
    before = {path: path.read_bytes() for path in report.rglob("*") if path.is_file()}
    done = project.run(*SWEEP, "trainer.epochs=2", uri)
    assert done.returncode == 2
    assert done.stderr == (
        "error: name=激活函数: its runs have trainer.epochs=1, these 2; give these another name, as name=激活函数-2\n"
    )
    assert {path: path.read_bytes() for path in report.rglob("*") if path.is_file()} == before


def test_a_dry_run_trains_nothing_and_sees_what_the_command_would_see(project, uri, swept):
    alone = project.run("pool=avg", QUICK, uri, "dry_run=true")
    assert alone.returncode == 0, alone.stderr
    assert alone.stdout.splitlines() == [
        "dry run of 1 run: nothing is trained or stored",
        "  pool=avg trainer.epochs=1 seed=0   finished already",
        "1 run planned, 1 of them finished already",
    ]
    other = project.run("pool=avg", "seed=5", "dry_run=true")  # the project's own store, which is not there
    assert "1 run planned, 0 of them finished already; the other 1 train for about" in other.stdout
    assert not (project.root / "mlruns" / "mlflow.db").exists()

    again = project.run(*SWEEP, QUICK, uri, "dry_run=true")
    assert "2 runs planned, 2 of them finished already\n" in again.stdout
    forced = project.run(*SWEEP, QUICK, uri, "dry_run=true", "tracking.rerun=true")
    assert "2 runs planned, 0 of them finished already; the other 2 train for" in forced.stdout
    code = project.root / "ablations" / "nn" / "__init__.py"
    before = code.read_bytes()
    code.write_bytes(before + b"# other code\n")
    try:
        changed = project.run(*SWEEP, QUICK, uri, "dry_run=true")
    finally:
        code.write_bytes(before)
    assert "2 runs planned, 0 of them finished already; the other 2 train for" in changed.stdout


def test_a_published_report_stays(project, uri, swept):
    report = project.root / "reports" / "激活函数"
    (report / "PUBLISHED").touch()
    before = {path: path.read_bytes() for path in report.rglob("*") if path.is_file()}
    done = project.run(*SWEEP, QUICK, uri)
    assert done.returncode == 0, done.stderr
    assert (
        f"report: {report}-2/README.md\n(reports/激活函数 is published, and stays as it is; " in done.stdout
    )
    assert {path: path.read_bytes() for path in report.rglob("*") if path.is_file()} == before
    (report / "PUBLISHED").unlink()


def test_folders_of_a_data_set_are_compared(project, tmp_path):
    for name, count in (("a", "300"), ("b", "200")):
        done = project.python(
            "-m", "ablations.export_images", "digits", str(tmp_path / name), "--limit", count
        )
        assert done.returncode == 0, done.stderr
    folders = f"dataset.root={tmp_path}/a,{tmp_path}/b"
    done = project.run("-m", "dataset=images", folders, QUICK, "name=folders")
    assert done.returncode == 0, done.stderr
    runs = project.runs("folders")
    assert list(runs["params.dataset.root"]) == [f"{tmp_path}/a", f"{tmp_path}/b"]
    assert list(runs["run_name"]) == [f"dataset.root={tmp_path}/{name} seed=0" for name in "ab"]
    text = (project.root / "reports" / "folders" / "README.md").read_text("utf-8")
    assert "| dataset.root | b | a |" in text
    assert "Left out" not in text


def test_a_typing_error_in_an_own_study_is_one_line(project):
    study = (project.root / "conf" / "study" / "pool.yaml").read_text("utf-8")
    own = project.root / "conf" / "study" / "own.yaml"
    own.write_text(study.replace("study:", "study:\n  marginn: 3"), "utf-8")
    done = project.run("+study=own", "dry_run=true")
    own.unlink()
    assert done.returncode == 2
    assert done.stderr == "error: study.marginn: there is no such key; accepted: those of conf/config.yaml\n"


def test_without_assertions_a_command_is_one_line(project):
    done = subprocess.run(
        [sys.executable, str(project.root / "run.py"), "-m", "seed=0,1"],
        env={**os.environ, **project.environment, "PYTHONOPTIMIZE": "1"},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: PYTHONOPTIMIZE, python -O: ")
    assert done.stderr.count("\n") == 1
