"""A tracking server as docs/server.md sets it up: PostgreSQL, artifacts through the server, two sweeps at once.

Skipped where PostgreSQL (Debian's package of this name), its Python driver or the right to become its user is absent.
"""

import os
import pwd
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from mlflow import MlflowClient
from project import PATIENCE_S
from test_cli import ARTIFACTS, Project

from ablations.report import compile_report
from ablations.tracking import Reader, Store

BINARIES = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
if not BINARIES:
    pytest.skip("no PostgreSQL", allow_module_level=True)
if os.geteuid() != 0 or "postgres" not in {user.pw_name for user in pwd.getpwall()}:
    pytest.skip("PostgreSQL refuses to run as root, and its user cannot be had", allow_module_level=True)
pytest.importorskip("psycopg2", reason="no psycopg2")

pytestmark = pytest.mark.slow  # a minute, two on busy cores; .ci/run has it

EPOCHS = 2
PER_EPOCH = {"train/loss", "train/accuracy", "train/grad_max_abs", "val/loss", "val/accuracy"}
PER_EPOCH |= {"time/epoch_s", "time/images_per_s"}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def as_postgres(program: str, *arguments: object) -> None:
    command = ["runuser", "-u", "postgres", "--", str(BINARIES[-1] / program), *map(str, arguments)]
    subprocess.run(command, check=True, cwd="/", stdout=subprocess.DEVNULL, timeout=PATIENCE_S)


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    folder = (
        Path("/tmp") / f"ablations-postgres-{os.getpid()}"
    )  # the user postgres cannot look into pytest's own
    folder.mkdir()
    shutil.chown(folder, "postgres", "postgres")
    port = free_port()
    try:
        as_postgres("initdb", "-D", folder / "data", "-U", "mlflow", "--auth", "trust")
        options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder}"
        as_postgres("pg_ctl", "-D", folder / "data", "-w", "-l", folder / "log", "-o", options, "start")
        try:
            yield f"postgresql+psycopg2://mlflow@127.0.0.1:{port}/postgres"
        finally:
            as_postgres("pg_ctl", "-D", folder / "data", "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def server(database, serve) -> Store:
    return serve(Store(database), workers=2)


@pytest.fixture(scope="module")
def sweeps(server, tmp_path_factory) -> dict[str, pd.DataFrame]:
    """Two sweeps at once, two workers each."""
    project = Project(tmp_path_factory.mktemp("sweeps"))
    common = [f"trainer.epochs={EPOCHS}", "seed=0,1", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
    commands = {"one": ["activation=relu,tanh"], "two": ["pool=max,avg"]}
    environment = os.environ | {"PYTHONPATH": str(project.root), "MLFLOW_TRACKING_URI": server.uri}
    processes = {
        name: subprocess.Popen(
            [sys.executable, str(project.root / "run.py"), "-m", *swept, *common, f"name={name}"],
            cwd=project.elsewhere,
            env={key: value for key, value in environment.items() if key != "ABLATIONS_OUTBOX"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for name, swept in commands.items()
    }
    for process in processes.values():
        output, _ = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 0, output
    assert not (project.root / "mlruns" / "mlflow.db").exists()
    return {name: Reader(server).runs(tags={"sweep": name}) for name in commands}


def test_two_sweeps_at_once_lose_nothing(server, sweeps):
    reader = Reader(server)
    for runs in sweeps.values():
        assert list(runs["status"]) == ["FINISHED"] * 4
        histories = reader.histories(list(runs["run_id"]))
        for metric in PER_EPOCH:
            steps = histories[histories["metric"] == metric]["step"]
            assert sorted(steps) == sorted([*range(1, EPOCHS + 1)] * 4)
        for run_id in runs["run_id"]:
            listed = {item.path for item in MlflowClient(server.uri).list_artifacts(run_id)}
            assert listed == ARTIFACTS
            assert reader.artifact(run_id, "model.npz").stat().st_size > 200_000


def test_the_report_is_the_one_that_sqlite_gives_but_for_the_ids(server, sweeps, tmp_path):
    local = Store(f"sqlite:///{tmp_path / 'mlflow.db'}")
    ids = copied(server, local, sweeps["one"], tmp_path / "downloads")
    reports = [
        compile_report("one", each, folder=tmp_path / name).path.parent
        for name, each in (("server", server), ("sqlite", local))
    ]
    for name in ("README.md", "runs.csv", "effects.csv", "verdicts.tex"):
        ours, theirs = ((report / name).read_text(encoding="utf-8") for report in reports)
        for old, new in ids.items():
            ours = ours.replace(old, new)
        ours, theirs = (re.sub(r" --tracking-uri \S+", "", text) for text in (ours, theirs))
        assert ours == theirs, name
    figures = [{path.name: path.read_bytes() for path in report.glob("figures/*")} for report in reports]
    assert figures[0] == figures[1]
    assert len(figures[0]) >= 6


def copied(source: Store, target: Store, runs: pd.DataFrame, folder: Path) -> dict[str, str]:
    """Log the same runs to another store, at the same times; the new ids by the old ones."""
    theirs, experiment = MlflowClient(source.uri), target.prepare("lenet5")
    ours, ids = MlflowClient(target.uri), {}
    tags = theirs.get_experiment(runs["experiment_id"].iloc[0]).tags
    for key, value in tags.items():
        if key.startswith(("study.", "look.")):
            ours.set_experiment_tag(experiment, key, value)
    for run_id in runs["run_id"]:
        run = theirs.get_run(run_id)
        made = ours.create_run(experiment, run.info.start_time, run.data.tags, run.info.run_name)
        ids[run_id] = made.info.run_id
        for key, value in run.data.params.items():
            ours.log_param(made.info.run_id, key, value)
        for name in run.data.metrics:
            for point in theirs.get_metric_history(run_id, name):
                ours.log_metric(made.info.run_id, name, point.value, point.timestamp, point.step)
        place = folder / run_id
        place.mkdir(parents=True)
        theirs.download_artifacts(run_id, "", str(place))
        ours.log_artifacts(made.info.run_id, str(place))
        ours.log_inputs(made.info.run_id, run.inputs.dataset_inputs)
        ours.set_terminated(made.info.run_id, run.info.status, run.info.end_time)
    return ids
