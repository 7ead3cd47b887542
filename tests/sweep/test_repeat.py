"""Commands that are given again: what is done is used, what failed is tried again, and the same bits come out."""

import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from project import PATIENCE_S, Project

QUICK = "trainer.epochs=2"


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return Project(tmp_path_factory.mktemp("repeat"))


def models(project: Project, runs) -> set[bytes]:
    return {project.reader.artifact(run_id, "model.npz").read_bytes() for run_id in runs["run_id"]}


@pytest.mark.slow  # many seconds; .ci/run has it
def test_a_run_of_its_own(project):
    first = project.run(QUICK, "seed=7", "tracking.experiment=alone")
    assert first.returncode == 0, first.stderr
    (run_id,) = project.reader.runs("alone")["run_id"]

    again = project.run(QUICK, "seed=7", "tracking.experiment=alone")
    assert again.returncode == 0, again.stderr
    said, *rest = first.stdout.splitlines()
    name, result = said.split(": ")
    assert again.stdout.splitlines() == [f"{name}: already finished (run {run_id}), {result}", *rest]
    assert list(project.reader.runs("alone")["run_id"]) == [run_id]

    forced = project.run(QUICK, "seed=7", "tracking.experiment=alone", "tracking.rerun=true")
    assert forced.returncode == 0, forced.stderr
    runs = project.reader.runs("alone")
    assert list(runs["status"]) == ["FINISHED"] * 2
    assert runs["tags.config_hash"].nunique() == 1
    assert len(models(project, runs)) == 1  # the same bytes, time stamps of the archive included


@pytest.mark.slow  # many seconds; .ci/run has it
def test_a_result_that_is_there_is_part_of_a_sweeps_report(project):
    """That of the run above, which belongs to no sweep."""
    done = project.run(
        "-m", "activation=relu,tanh", QUICK, "seed=7", "tracking.experiment=alone", "name=sweep"
    )
    assert done.returncode == 0, done.stderr
    source = project.reader.runs("alone").iloc[1]
    sweep = project.runs("sweep")
    copy = sweep[sweep["params.activation"] == "relu"].iloc[0]
    assert f"activation=relu seed=7: already finished (run {source['run_id']}), test error" in done.stdout
    assert "activation=tanh seed=7: already finished" not in done.stdout
    assert copy["tags.copied_from"] == source["run_id"]
    assert copy["status"] == "FINISHED"
    same = [key for key in source.index if key.partition(".")[0] in ("params", "metrics")]
    same += ["tags.code", "tags.config_hash"]
    assert {key: source[key] for key in same} == {key: copy[key] for key in same}
    histories = [project.reader.histories([run["run_id"]]).drop(columns="run_id") for run in (source, copy)]
    assert histories[0].equals(histories[1])
    folders = [project.reader.artifact(run["run_id"], "model.npz").parent for run in (source, copy)]
    contents = [
        {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        for folder in folders
    ]
    assert contents[0] == contents[1]
    report = (project.root / "reports" / "sweep" / "README.md").read_text()
    assert copy["run_id"] in report


@pytest.mark.slow  # half a minute; .ci/run has it
def test_what_failed(project):
    """With what no layer is made for, and with a rate that makes the loss overflow; under a launcher with workers."""
    command = [
        "-m",
        "network.layers.C1.kernel=5,five",
        "optimizer.lr=0.001,1e6",
        "optimizer=sgd",
        QUICK,
    ]
    command += ["head=mse", "name=failing"]
    first = project.run(*command, "hydra/launcher=joblib")
    assert first.returncode == 1, first.stderr
    before = project.runs("failing")
    keys = ["params.network.layers.C1.kernel", "params.optimizer.lr"]
    found = before.set_index(keys)[["status", "tags.failure"]]
    assert found.loc[("5", "0.001"), "status"] == "FINISHED"
    assert list(found.loc[("5", "1000000.0")]) == ["FAILED", "diverged"]
    for lr in ("0.001", "1000000.0"):
        assert list(found.loc[("five", lr)]) == ["FAILED", "error"]
    runs = before.set_index(keys)
    assert "at step 2 (epoch 1)" in runs.loc[("5", "1000000.0"), "tags.failure_reason"]
    lost = runs.loc[("five", "0.001")]
    assert lost["tags.failure_reason"].startswith("TypeError: ")
    trace = project.reader.artifact(lost["run_id"], "traceback.txt").read_text()
    assert trace.startswith("Traceback (most recent call last):")
    assert "build_network" in trace
    assert project.reader.artifact(runs.loc[("5", "1000000.0"), "run_id"], "traceback.txt") is None

    again = project.run(*command)
    assert again.returncode == 1
    assert "as before" in next(line for line in again.stdout.splitlines() if "diverged" in line)
    after = project.runs("failing")
    assert list(after["run_id"]) == list(before["run_id"])
    assert list(after["status"]) == list(before["status"])
    resumed = after.set_index("run_id")["tags.resumed"]
    for run in before.to_dict("records"):
        assert (resumed[run["run_id"]] == "1") == (run["tags.failure"] == "error")


@pytest.mark.slow
def test_a_damaged_checkpoint_is_named_and_the_run_is_trained_from_its_beginning(project):
    """And the epochs that the store knows of it are not there twice."""
    command = ["trainer.epochs=30", "tracking.experiment=damaged"]
    process = subprocess.Popen(
        [sys.executable, str(project.root / "run.py"), *command],
        env=project.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    folder = project.root / "mlruns" / "checkpoints"
    while process.poll() is None and not list(folder.glob("*/previous.npz")):
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE_S) == 143, process.communicate()
    process.communicate()
    for file in folder.glob("*/*.npz"):
        file.write_bytes(file.read_bytes()[:-100])
    done = project.run(*command)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("is no checkpoint to go on from") == 2
    assert "goes on after" not in done.stdout
    (run_id,) = project.reader.runs("damaged")["run_id"]
    steps = project.reader.histories([run_id], ["train/loss"])["step"]
    np.testing.assert_array_equal(steps, np.arange(1, 31))


@pytest.mark.slow
def test_two_at_the_same_moment_train_once(project):
    command = [sys.executable, str(project.root / "run.py"), "trainer.epochs=20", "tracking.experiment=both"]
    both = [
        subprocess.Popen(command, env=project.environment, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    said = [process.communicate(timeout=PATIENCE_S)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sum("already finished" in each for each in said) == 1
    assert list(project.reader.runs("both")["status"]) == ["FINISHED"]
    assert said[0].splitlines()[-2:] == said[1].splitlines()[-2:]  # the same run


def test_a_full_disk_does_not_stop_the_training(project):
    """Where no checkpoint can be written, it is said once, and every metric reaches the store all the same."""
    code = """
import errno, os, runpy, sys
from ablations.experiment import checkpoints

def write(path, checkpoint):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

checkpoints.write = write
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
    done = project.python("-c", code, str(project.root / "run.py"), QUICK, "tracking.experiment=full")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("goes on without checkpoints: [Errno 28] No space left on device") == 1
    (run_id,) = project.reader.runs("full")["run_id"]
    assert list(project.reader.histories([run_id], ["train/loss"])["step"]) == [1, 2]
