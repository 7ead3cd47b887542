"""Real sweeps, killed, and repeated until they are done: nothing is lost, nothing is doubled, no bit differs.

    python -m pytest tests/test_kills.py                                      five kills, at chosen moments
    python -m pytest tests/test_kills.py -m slow -s -n 0                      25 SIGKILLs and 25 SIGTERMs
    python -m pytest tests/test_kills.py -m soak -s -n 0                      200, half of each

The last two kill at random moments of the whole life of a sweep, from the start of Python to the report, and print
what happened.
"""

import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from itertools import cycle
from pathlib import Path

import pytest
from project import PATIENCE_S, wait_until

from ablations.paths import ROOT
from ablations.tracking import Reader, Store

EPOCH_METRICS = {"train/loss", "train/accuracy", "train/grad_max_abs", "val/loss", "val/accuracy"}
EPOCH_METRICS |= {"time/epoch_s", "time/images_per_s"}
LAST_METRICS = {"test/loss", "test/accuracy", "test/error_pct", "test/confidence"}
KILLS_PER_SWEEP = 5


class Sweep:
    """A command, in a copy of the project of its own."""

    def __init__(self, root: Path, factor: str, values: list[str], epochs: int, *more: str) -> None:
        self.root, self.factor, self.values, self.epochs = root, factor, values, epochs
        self.command = ["-m", f"{factor}={','.join(values)}", f"trainer.epochs={epochs}", "name=s", *more]
        for name in ("conf", "ablations", "hydra_plugins"):
            shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "run.py", root)

    def start(self, *more: str) -> subprocess.Popen[str]:
        unset = {"MLFLOW_TRACKING_URI", "HYDRA_FULL_ERROR", "ABLATIONS_OUTBOX"}
        environment = {key: value for key, value in os.environ.items() if key not in unset}
        return subprocess.Popen(
            [sys.executable, str(self.root / "run.py"), *self.command, *more],
            env=environment | {"PYTHONPATH": str(self.root)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def finish(self, *more: str) -> str:
        process = self.start(*more)
        out, err = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 0, out + err
        return out

    def forget(self) -> None:
        for folder in ("mlruns", "reports"):
            shutil.rmtree(self.root / folder, ignore_errors=True)

    @property
    def reader(self) -> Reader:
        return Reader(Store(f"sqlite:///{self.root / 'mlruns' / 'mlflow.db'}"))

    def statuses(self) -> Counter[str]:
        if not (self.root / "mlruns" / "mlflow.db").exists():
            return Counter()
        return Counter(self.reader.runs()["status"])

    def models(self) -> dict[str, str]:
        """The digest of each run's model.npz, by the level of the factor."""
        found = {}
        for run in self.reader.runs(tags={"sweep": "s"}).to_dict("records"):
            model = self.reader.artifact(run["run_id"], "model.npz")
            found[run[f"params.{self.factor}"]] = hashlib.sha256(model.read_bytes()).hexdigest()
        return found

    def assert_done_once(self, models: dict[str, str]) -> None:
        """Every planned run is FINISHED once, has each metric once, and the bits of an undisturbed one."""
        runs = self.reader.runs()
        assert sorted(runs[f"params.{self.factor}"]) == sorted(self.values)
        assert set(runs["status"]) == {"FINISHED"}
        assert "tags.failure" not in runs or runs["tags.failure"].isna().all()
        histories = self.reader.histories(list(runs["run_id"]))
        for _, history in histories.groupby("run_id"):
            steps = {metric: list(rows["step"]) for metric, rows in history.groupby("metric")}
            once = {metric: list(range(1, self.epochs + 1)) for metric in EPOCH_METRICS}
            once |= {metric: [self.epochs] for metric in LAST_METRICS}
            assert {metric: steps[metric] for metric in once} == once
        assert self.models() == models
        assert list((self.root / "mlruns" / "checkpoints").iterdir()) == []
        assert not list((self.root / "mlruns").glob("outbox/*"))


def group_is_gone(process: subprocess.Popen[str]) -> bool:
    """Whether nothing that a start has started is left; the workers' trackers may take a moment."""

    def gone() -> bool:
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            return True
        return False

    wait_until(gone, "the end of all that the start has started")
    return True


# At chosen moments


def stop_when(sweep: Sweep, process: subprocess.Popen[str], number: signal.Signals, runs: int) -> None:
    """Send a signal, to all where it is SIGKILL, once the store knows of `runs` and the last has a checkpoint."""
    checkpoints = sweep.root / "mlruns" / "checkpoints"

    def there() -> bool:
        if process.poll() is not None:
            pytest.fail("the sweep ended before it could be stopped: " + process.communicate()[1])
        return list(checkpoints.glob("*/checkpoint.npz")) and sweep.statuses().total() == runs

    wait_until(there, "a checkpoint")
    if number == signal.SIGKILL:
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)


def test_a_sweep_that_was_killed_goes_on(tmp_path):
    sweep = Sweep(tmp_path, "optimizer", ["adam", "sdlm"], 15, "distortion=planar")
    sweep.finish()
    models = sweep.models()
    sweep.forget()

    process = sweep.start()
    stop_when(sweep, process, signal.SIGKILL, runs=1)
    assert process.wait(PATIENCE_S) == -signal.SIGKILL
    process.communicate()
    assert sweep.statuses() == {"RUNNING": 1}

    process = sweep.start()
    stop_when(sweep, process, signal.SIGTERM, runs=2)
    out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 128 + signal.SIGTERM
    assert err == "interrupted: the same command goes on from here\n"
    assert "optimizer=adam seed=0: goes on after epoch " in out
    assert sweep.statuses() == {"FINISHED": 1, "FAILED": 1}
    runs = sweep.reader.runs().set_index("params.optimizer")
    assert runs.loc["sdlm", "tags.failure"] == "interrupted"
    assert runs.loc["sdlm", "tags.failure_reason"] == "stopped by SIGTERM"

    out = sweep.finish()
    assert f"optimizer=adam seed=0: already finished (run {runs.loc['adam', 'run_id']}), test error" in out
    assert "optimizer=sdlm seed=0: goes on after epoch " in out
    sweep.assert_done_once(models)
    again = sweep.reader.runs().set_index("params.optimizer")
    assert dict(again["run_id"]) == dict(runs["run_id"])
    assert (again["tags.resumed"] == "1").all()


@pytest.mark.parametrize("how", ["main process killed", "Ctrl-C again and again"])
def test_nothing_is_left_of_a_sweep_with_workers(how, tmp_path, monkeypatch):
    """No process, no temporary folder; and no run RUNNING unless its process was killed."""
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    sweep = Sweep(tmp_path / "project", "optimizer", ["adam", "sdlm", "sgd"], 200, "hydra/launcher=joblib")
    process = sweep.start("hydra.launcher.n_jobs=2")
    wait_until(lambda: sweep.statuses() == {"RUNNING": 2}, "two runs at once")
    if how == "main process killed":
        process.kill()
    else:
        for _ in range(20):
            os.killpg(process.pid, signal.SIGINT)
            time.sleep(0.02)
    out, err = process.communicate(timeout=PATIENCE_S)
    assert group_is_gone(process)
    assert process.returncode == (-signal.SIGKILL if "killed" in how else 130), out + err
    assert sweep.statuses() == {"FAILED": 2}
    assert list(temporary.iterdir()) == []


# At random moments


def campaign(root: Path, kills: int, number: signal.Signals, seed: int) -> Iterator[str]:
    """Kill until `kills` is reached, beginning with a fresh store whenever the sweep is done; yield what happened.

    After a few kills a sweep is left to finish, so that all moments of its life get their share on a busy machine.
    """
    rng = random.Random(seed)
    sweep = Sweep(root, "optimizer", ["sgd", "adam", "sdlm", "rmsprop"], 10, "distortion=planar")
    started = time.monotonic()
    sweep.finish()
    life = time.monotonic() - started
    models = sweep.models()
    sweep.forget()
    done, rounds, starts, phases, slowest = 0, 0, 0, Counter(), 0.0
    for launcher in cycle(["basic", "joblib"]):
        enough = min(kills, done + KILLS_PER_SWEEP)
        while True:
            process = sweep.start(f"hydra/launcher={launcher}")
            starts += 1
            if done < enough:
                with suppress(subprocess.TimeoutExpired):
                    process.wait(rng.uniform(0, life))
            if done == enough or process.poll() is not None:
                out, err = process.communicate(timeout=PATIENCE_S)
                assert process.returncode == 0, out + err
                break
            before = sweep.statuses()
            sent = time.monotonic()
            if number == signal.SIGKILL:
                os.killpg(process.pid, number)
            else:
                process.send_signal(number)
            out, err = process.communicate(timeout=PATIENCE_S)
            took = time.monotonic() - sent
            done += 1
            assert group_is_gone(process)
            if number == signal.SIGKILL:
                phases[f"{before['FINISHED']} finished"] += 1
                continue
            if process.returncode == 0:  # it came too late
                phases["after the end"] += 1
                break
            slowest = max(slowest, took)
            # Before Python has got as far as to listen, the signal's own action ends it.
            assert process.returncode in (128 + number, -number), out + err
            if process.returncode > 0:
                assert err == "interrupted: the same command goes on from here\n"
            after = sweep.statuses()
            assert after["RUNNING"] == 0, (
                f"{took:.1f} s after {before}, code {process.returncode}: {out}{err}"
            )
            phases[f"{after['FINISHED']} finished"] += 1
        sweep.assert_done_once(models)
        rounds += 1
        yield f"round {rounds} ({launcher}): {done} kills, {starts} starts, all runs finished once, same bits"
        sweep.forget()
        if done == kills:
            break
    spread = ", ".join(f"{phase}: {count}" for phase, count in sorted(phases.items()))
    yield (
        f"{number.name}: {done} kills in {starts} starts of {rounds} sweeps of {len(models)} runs; killed with {spread}"
        + (f"; slowest end {slowest:.1f} s" if number != signal.SIGKILL else "")
    )


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=lambda number: number.name)
def test_25_kills_at_random_moments(number, tmp_path):
    for line in campaign(tmp_path, 25, number, seed=25):
        print(line, flush=True)


@pytest.mark.soak
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=lambda number: number.name)
def test_100_kills_at_random_moments(number, tmp_path):
    for line in campaign(tmp_path, 100, number, seed=100):
        print(line, flush=True)
