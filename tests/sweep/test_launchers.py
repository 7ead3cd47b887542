"""Sweeps under each launcher: workers on this machine, a Ray cluster that loses a node, submitit, Slurm's commands.

    python -m pytest tests/sweep/test_launchers.py -m slow -n 0

Ray and submitit are optional, and Ray wants an environment of its own (docs/clusters.md): what is not installed is
skipped. A real Slurm is not there to be tried: stand-ins for its commands start the tasks of a job array here.
"""

import importlib.util
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pandas as pd
import pytest
from joblib import cpu_count
from project import Project, wait_until

from ablations.errors import InputError
from ablations.ground.paths import CONF

EXTRAS = {"ray": "ray", "submitit_local": "submitit", "submitit_slurm": "submitit"}


def installed(extra: str) -> bool:
    return importlib.util.find_spec(extra) is not None


def needs(extra: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(
        not installed(extra), reason=f"{extra} is not installed: python -m pip install -e '.[{extra}]'"
    )


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return Project(tmp_path_factory.mktemp("launchers"))


def runs_of(project: Project, sweep: str) -> pd.DataFrame:
    """Its runs; none where there is no store yet."""
    try:
        return project.runs(sweep)
    except InputError:
        return pd.DataFrame({"status": [], "run_id": []})


def assert_whole(project: Project, sweep: str, count: int, epochs: int) -> pd.DataFrame:
    """All runs are FINISHED, none is there twice, and each has its artifacts and every epoch once."""
    runs = project.runs(sweep)
    assert list(runs["status"]) == ["FINISHED"] * count
    assert runs["run_name"].is_unique
    losses = project.reader.histories(list(runs["run_id"]), ["train/loss"])
    for run_id in runs["run_id"]:
        assert list(losses.loc[losses["run_id"] == run_id, "step"]) == list(range(1, epochs + 1))
        assert project.reader.artifact(run_id, "predictions.npz") is not None
    report = (project.root / "reports" / sweep / "README.md").read_text()
    assert all(run_id in report for run_id in runs["run_id"])
    return runs


# joblib: all cores of one machine

MEETING = '''
"""A data set that is loaded when as many workers as were expected have come to load it."""

import json
import os
import time
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_info

from ablations.datasets import Digits

HERE = Path(__file__).parent / "meeting"


class Meeting(Digits):
    def load(self):
        np.ones((4, 4)) @ np.ones((4, 4))
        threads = [pool["num_threads"] for pool in threadpool_info()]
        (HERE / str(os.getpid())).write_text(json.dumps(threads))
        until = time.monotonic() + 1800
        while len(list(HERE.iterdir())) < int(os.environ["EXPECTED_WORKERS"]):
            if time.monotonic() > until:
                raise TimeoutError("there are fewer workers than cores")
            time.sleep(0.1)
        return super().load()
'''


@pytest.mark.slow
def test_joblib_uses_all_cores_with_one_thread_each(project, monkeypatch):
    workers = min(cpu_count(), 4)
    (project.root / "meeting").mkdir()
    (project.root / "meeting_point.py").write_text(MEETING)
    monkeypatch.setenv("EXPECTED_WORKERS", str(workers))
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.setenv(variable, "3")  # what the environment says is not what counts
    done = project.run(
        *("-m", f"seed=range({2 * workers})", "trainer.epochs=1", "name=cores", "hydra/launcher=joblib"),
        "dataset._target_=meeting_point.Meeting",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    threads = [path.read_text() for path in (project.root / "meeting").iterdir()]
    assert len(threads) >= workers
    for found in threads:
        assert set(found.strip("[]").split(", ")) == {"1"}
    lines = re.findall(r"^seed=(\d+): test error [\d.]+ %, [\d.]+ s$", done.stdout, re.MULTILINE)
    assert sorted(map(int, lines)) == list(range(2 * workers))
    assert_whole(project, "cores", 2 * workers, epochs=1)


# What is not installed, or not there


def test_every_launcher_here_is_known_to_this_test():
    assert {path.stem for path in (CONF / "hydra" / "launcher").glob("*.yaml")} == set(EXTRAS)


@pytest.mark.parametrize("launcher", EXTRAS)
def test_a_launcher_that_is_not_installed_names_its_extra(project, launcher):
    extra = EXTRAS[launcher]
    if installed(extra):
        pytest.skip(f"{extra} is installed")
    done = project.run("-m", "seed=0,1", f"hydra/launcher={launcher}")
    assert done.returncode == 2
    assert done.stderr == (
        f"error: hydra/launcher={launcher} is not installed: python -m pip install -e '.[{extra}]' (docs/clusters.md)\n"
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("launcher", "reason"),
    [
        pytest.param("ray", "ConnectionError: Could not find any running Ray instance", marks=needs("ray")),
        pytest.param("submitit_slurm", "RuntimeError: Could not detect", marks=needs("submitit")),
    ],
)
def test_a_cluster_that_is_not_there_is_one_line(project, launcher, reason):
    done = project.run("-m", "seed=0,1", f"hydra/launcher={launcher}", "name=absent")
    assert done.returncode == 2
    assert re.search(
        rf"^error: hydra/launcher={launcher}: {reason}.*; the same command goes on from here$",
        done.stderr,
        re.MULTILINE,
    )
    assert "Traceback" not in done.stderr
    assert "validated against ConfigStore" not in done.stderr


# Ray: a head and a second node, as on two machines


class Cluster:
    """Ray nodes of one core each; what runs on a node calls its user by the node's name, and so logs it."""

    def __init__(self, folder: Path, project: Project) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.address = f"127.0.0.1:{free.getsockname()[1]}"
        self.folder, self.project = folder, project
        self.nodes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, ip: str) -> None:
        if self.nodes:
            role = [f"--address={self.address}"]
        else:
            port = self.address.partition(":")[2]
            role = ["--head", f"--port={port}", "--include-dashboard=false", f"--temp-dir={self.folder}"]
        command = [str(Path(sys.executable).with_name("ray")), "start", "--block", *role]
        command += [f"--node-ip-address={ip}", "--num-cpus=1", "--object-store-memory=80000000"]
        log = self.folder / f"{name}.log"
        said = {"LOGNAME": name, "PYTHONPATH": str(self.project.root), "RAY_USAGE_STATS_ENABLED": "0"}
        with log.open("wb") as output:
            self.nodes[name] = subprocess.Popen(
                command,
                env=os.environ | said,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        wait_until(lambda: "Ray runtime started" in log.read_text(), f"node {name}")

    def kill(self, name: str) -> None:
        """As if its plug was pulled."""
        marks = {f"LOGNAME={name}".encode(), f"PYTHONPATH={self.project.root}".encode()}
        for folder in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):  # another user's, or one that ended a moment ago
                if marks <= set((folder / "environ").read_bytes().split(b"\0")):
                    os.kill(int(folder.name), signal.SIGKILL)
        self.nodes.pop(name).wait()

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        launcher = ["hydra/launcher=ray", f"hydra.launcher.ray.init.address={self.address}"]
        return self.project.run(*arguments, *launcher)


@pytest.fixture
def cluster(project) -> Iterator[Cluster]:
    # Sockets need a short path.
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        cluster = Cluster(Path(folder), project)
        try:
            cluster.start("head", "127.0.0.1")
            cluster.start("second", "127.0.0.2")
            yield cluster
        finally:
            for name in list(cluster.nodes):
                cluster.kill(name)


EPOCHS = 60
SIXTEEN = ["-m", "activation=relu,tanh", "pool=max,avg", "seed=range(4)", f"trainer.epochs={EPOCHS}"]


def lose_second_node(cluster: Cluster, sweep: str) -> pd.DataFrame:
    """Kill it in the middle of a run, after it has finished others; return the runs as they were then."""

    def on_second() -> pd.DataFrame:
        runs = runs_of(cluster.project, sweep)
        return runs[runs["tags.mlflow.user"] == "second"] if len(runs) else runs

    def in_the_middle() -> bool:
        runs = on_second()
        running = runs[runs["status"] == "RUNNING"]
        finished = (runs["status"] == "FINISHED").sum()
        return finished >= 2 and len(running) == 1 and running["metrics.train/loss"].notna().all()

    wait_until(in_the_middle, "two runs finished on the second node, and one begun")
    cluster.kill("second")
    return runs_of(cluster.project, sweep)


@needs("ray")
@pytest.mark.slow
def test_ray_goes_on_when_a_node_is_lost(cluster, monkeypatch):
    monkeypatch.setenv("RAY_DEDUP_LOGS", "0")
    with ThreadPoolExecutor() as background:
        started = time.monotonic()
        sweep = background.submit(cluster.run, *SIXTEEN, "name=lossy")
        then = lose_second_node(cluster, "lossy")
        done = sweep.result()
    assert done.returncode == 0, done.stdout + done.stderr
    runs = assert_whole(cluster.project, "lossy", 16, EPOCHS)
    nodes = runs["tags.mlflow.user"].value_counts()
    (lost,) = then.loc[(then["status"] == "RUNNING") & (then["tags.mlflow.user"] == "second"), "run_id"]
    print(
        f"\n16 runs in {time.monotonic() - started:.0f} s, begun on {nodes.to_dict()}; run {lost} was moved"
    )
    assert set(nodes.index) == {"head", "second"}
    assert nodes["second"] >= 3
    assert nodes["head"] > nodes["second"]
    resumed = runs.set_index("run_id")["tags.resumed"]
    assert resumed[lost] == "1"  # not begun again: it went on from its checkpoint, on the head
    assert len(set(re.findall(r"(activation=\w+ pool=\w+ seed=\d): .*test error", done.stdout))) == 16

    again = cluster.run(*SIXTEEN, "name=lossy")
    assert again.returncode == 0, again.stderr
    assert again.stdout.count("already finished") >= 16
    assert list(cluster.project.runs("lossy")["end_time"]) == list(runs["end_time"])


# submitit


def at_once(runs: pd.DataFrame) -> int:
    """The largest number of runs that went on at the same time."""
    steps = [(when, 1) for when in runs["start_time"]] + [(when, -1) for when in runs["end_time"]]
    counts = pd.Series([step for _, step in sorted(steps)]).cumsum()
    return int(counts.max())


def processes_that_train(project: Project, sweep: str) -> list[int]:
    """Those of the runs that have logged an epoch and are not finished."""
    runs = runs_of(project, sweep)
    if "metrics.train/loss" not in runs:
        return []
    running = runs[(runs["status"] == "RUNNING") & runs["metrics.train/loss"].notna()]
    return [int(claim.split()[1]) for claim in running["tags.claim"]]


@needs("submitit")
@pytest.mark.slow
def test_submitit_starts_no_more_jobs_than_it_may(project):
    command = ["-m", "activation=relu,tanh", "seed=range(4)", "trainer.epochs=2", "name=bounded"]
    started = time.monotonic()
    done = project.run(*command, "hydra/launcher=submitit_local", "sweep.at_once=2")
    assert done.returncode == 0, done.stdout + done.stderr
    seconds = time.monotonic() - started
    assert "validated against ConfigStore" not in done.stderr
    runs = assert_whole(project, "bounded", 8, epochs=2)
    print(f"\n8 runs in {seconds:.0f} s, at most {at_once(runs)} at once")
    assert at_once(runs) <= 2
    assert runs["tags.claim"].nunique() == 8  # each in a process of its own


@needs("submitit")
@pytest.mark.slow
def test_submitit_loses_one_job_and_no_other(project):
    command = ["-m", "activation=relu,tanh", "seed=range(2)", "trainer.epochs=100", "name=job_lost"]
    command += ["hydra/launcher=submitit_local", "sweep.at_once=2"]

    with ThreadPoolExecutor() as background:
        sweep = background.submit(project.run, *command)
        wait_until(lambda: processes_that_train(project, "job_lost"), "a run")
        os.kill(processes_that_train(project, "job_lost")[0], signal.SIGKILL)
        done = sweep.result()
    assert done.returncode == 2
    assert "UncompletedJobError" in done.stderr
    assert done.stderr.rstrip().endswith("; the same command goes on from here")
    assert (project.runs("job_lost")["status"] == "FINISHED").sum() == 3
    again = project.run(*command)
    assert again.returncode == 0, again.stderr
    assert_whole(project, "job_lost", 4, epochs=100)


# Slurm's commands as submitit uses them. A job array's tasks start here, as many at once as it says; `scontrol requeue`
# starts one again.
SLURM = {
    "sbatch": """
array=$(sed -n 's/^#SBATCH --array=0-//p' "$1")
export SLURM_ARRAY_JOB_ID=4711 SLURM_JOB_ID=4711 SLURM_NTASKS=1 SLURM_JOB_NUM_NODES=1 SLURM_NODEID=0
export SLURM_PROCID=0 SLURM_LOCALID=0 SLURM_JOB_NODELIST=localhost
cp "$1" "$SLURM_STANDINS/submitted"
seq 0 "${array%\\%*}" | setsid xargs -P "${array#*%}" -I{} env SLURM_ARRAY_TASK_ID={} bash "$1" > /dev/null 2>&1 &
echo "Submitted batch job 4711"
""",
    "srun": """
fill() { echo "$1" | sed "s/%A/4711/g; s/%a/$SLURM_ARRAY_TASK_ID/g; s/%t/0/g"; }
out=$(fill "$3") err=$(fill "$5")
shift 5
again="$SLURM_STANDINS/requeue_4711_$SLURM_ARRAY_TASK_ID"
"$@" >> "$out" 2>> "$err"
while [ -e "$again" ]; do rm "$again"; "$@" >> "$out" 2>> "$err"; done
""",
    "scontrol": '[ "$1" = requeue ] && touch "$SLURM_STANDINS/requeue_$2"',
    "sacct": "echo 'JobID|State|NodeList'",
}


@pytest.fixture
def slurm(tmp_path, monkeypatch) -> Path:
    """A folder with the stand-ins, which are found first."""
    if shutil.which("bash") is None:
        pytest.skip("the stand-ins for Slurm's commands are bash scripts")
    for name, script in SLURM.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{script}")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_STANDINS", str(tmp_path))
    return tmp_path


@needs("submitit")
@pytest.mark.slow
def test_slurm_gets_an_array_of_jobs_and_one_whose_time_is_up_goes_on(project, slurm):
    epochs = 200
    command = ["-m", "activation=relu,tanh", "seed=range(2)", f"trainer.epochs={epochs}", "name=slurm"]
    command += ["hydra/launcher=submitit_slurm", "hydra.launcher.array_parallelism=2"]
    command += ["hydra.launcher.partition=short", "+hydra.launcher.additional_parameters.requeue=true"]

    with ThreadPoolExecutor() as background:
        sweep = background.submit(project.run, *command)
        wait_until(lambda: processes_that_train(project, "slurm"), "a run")
        # What Slurm sends before a job's time is up.
        os.kill(processes_that_train(project, "slurm")[0], signal.SIGUSR2)
        done = sweep.result()
    assert done.returncode == 0, done.stdout + done.stderr
    asked = (slurm / "submitted").read_text()
    for line in ("array=0-3%2", "cpus-per-task=1", "mem=4GB", "partition=short", "requeue", "time=240"):
        assert f"#SBATCH --{line}\n" in asked
    assert "#SBATCH --signal=USR2@120\n" in asked
    runs = assert_whole(project, "slurm", 4, epochs)
    assert at_once(runs) <= 2
    assert sorted(runs["tags.resumed"].fillna("0")) == ["0", "0", "0", "1"]
