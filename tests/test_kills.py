"""Real sweeps, killed, and repeated until they are done: nothing is lost, nothing is doubled, no bit differs.

    python -m pytest tests/test_kills.py                                      a few kills, at chosen moments
    python -m pytest tests/test_kills.py -m slow -s -n 0                      28, four of each kind
    python -m pytest tests/test_kills.py -m soak -s -n 0                      200

The last two strike at random moments of the whole life of a sweep, from the start of Python to the report, and print
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
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import cycle
from pathlib import Path

import commands
import psutil
import pytest
from project import PATIENCE_S, wait_until

from ablations.commands.signals import WORKER_GRACE_S
from ablations.ground.paths import ROOT
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

    @property
    def environment(self) -> dict[str, str]:
        unset = {"MLFLOW_TRACKING_URI", "HYDRA_FULL_ERROR", "ABLATIONS_OUTBOX"}
        environment = {key: value for key, value in os.environ.items() if key not in unset}
        return environment | {"PYTHONPATH": str(self.root)}

    def start(self, *more: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, str(self.root / "run.py"), *self.command, *more],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def finish(self, *more: str) -> str:
        words = [str(self.root / "run.py"), *self.command, *more]
        done = commands.run(words, self.root, self.environment, PATIENCE_S)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

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

    def running(self) -> set[tuple[str, str]]:
        """The runs that are RUNNING, each with the process that took it up last."""
        if not (self.root / "mlruns" / "mlflow.db").exists():
            return set()
        runs = self.reader.runs()
        runs = runs[runs["status"] == "RUNNING"]
        return {(run["run_id"], str(run.get("tags.claim"))) for run in runs.to_dict("records")}

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


def require_going_on(process: subprocess.Popen[str]) -> None:
    if process.poll() is not None:
        pytest.fail("the sweep ended before it could be stopped: " + process.communicate()[1])


def stop_when(sweep: Sweep, process: subprocess.Popen[str], number: signal.Signals, runs: int) -> None:
    """Send a signal, to all where it is SIGKILL, once the store knows of `runs` and the last has a checkpoint."""
    checkpoints = sweep.root / "mlruns" / "checkpoints"

    def there() -> bool:
        require_going_on(process)
        return list(checkpoints.glob("*/checkpoint.npz")) and sweep.statuses().total() == runs

    wait_until(there, "a checkpoint")
    if number == signal.SIGKILL:
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)


@pytest.mark.slow
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


@pytest.mark.slow
@pytest.mark.parametrize("how", ["main process killed", "Ctrl-C again and again"])
def test_nothing_is_left_of_a_sweep_with_workers(how, tmp_path, monkeypatch):
    """No process, no temporary folder; and no run RUNNING unless its process was killed."""
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    sweep = Sweep(tmp_path / "project", "optimizer", ["adam", "sdlm", "sgd"], 200, "hydra/launcher=joblib")
    process = sweep.start("hydra.launcher.n_jobs=2")

    def two_at_once() -> bool:
        require_going_on(process)
        return sweep.statuses() == {"RUNNING": 2}

    wait_until(two_at_once, "two runs at once")
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


def workers(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """joblib's, without its trackers; none under the basic launcher or before they are there."""
    with suppress(psutil.Error):
        found = psutil.Process(process.pid).children()
        return [each for each in found if "popen_loky" in " ".join(each.cmdline())]
    return []


def kill_one(process: subprocess.Popen[str], rng: random.Random) -> None:
    """A worker, where there is one."""
    with suppress(psutil.NoSuchProcess):
        rng.choice(workers(process) or [process]).kill()


def tell(*numbers: signal.Signals) -> Callable[[subprocess.Popen[str], random.Random], None]:
    """Signals one soon after the other: to the main process, but Ctrl-C and a closed terminal to all."""

    def tell(process: subprocess.Popen[str], rng: random.Random) -> None:
        for number in numbers:
            with suppress(ProcessLookupError):
                if number == signal.SIGTERM:
                    process.send_signal(number)
                else:
                    os.killpg(process.pid, number)
            time.sleep(rng.uniform(0, 0.3) if len(numbers) > 1 else 0)

    return tell


BLOWS: dict[str, tuple[Callable[[subprocess.Popen[str], random.Random], None], set[int]]] = {
    "SIGKILL to all": (lambda process, _: os.killpg(process.pid, signal.SIGKILL), set()),
    "SIGKILL to the main process": (lambda process, _: process.kill(), set()),
    "SIGKILL to a worker": (kill_one, set()),
    "SIGTERM": (tell(signal.SIGTERM), {signal.SIGTERM}),
    "Ctrl-C twice": (tell(signal.SIGINT, signal.SIGINT), {signal.SIGINT}),
    "SIGTERM, then Ctrl-C": (tell(signal.SIGTERM, signal.SIGINT), {signal.SIGTERM, signal.SIGINT}),
    "the terminal closed": (tell(signal.SIGHUP), {signal.SIGHUP}),
}
"""How a sweep is struck, and by which signals it was told to end, where it was told."""


def struck(
    sweep: Sweep, process: subprocess.Popen[str], name: str, rng: random.Random, orphans: set[tuple[str, str]]
) -> tuple[float, Counter[str], int]:
    """Strike; how long the end took, the runs by status then, and how many were cut off. `orphans` were RUNNING before
    the start."""
    blow, told = BLOWS[name]
    is_parallel = bool(workers(process))
    sent = time.monotonic()
    blow(process, rng)
    out, err = process.communicate(timeout=PATIENCE_S)
    took = time.monotonic() - sent
    assert group_is_gone(process)
    after = sweep.statuses()
    state = f"{name}: {took:.1f} s, code {process.returncode}, {dict(after)}: {out}{err}"
    if told and process.returncode:
        # Before Python has got as far as to listen, a signal's own action ends it.
        assert process.returncode in {code for number in told for code in (128 + number, -number)}, state
        if process.returncode > 0:
            assert err == "interrupted: the same command goes on from here\n", state
    elif name == "SIGKILL to a worker":
        assert process.returncode in (0, 2, -signal.SIGKILL), state
    # Who is killed says nothing, and joblib kills the other workers of one that was; all others have ended their runs.
    lost = dict.fromkeys(("SIGKILL to all", "SIGKILL to a worker"), 2)
    lost["SIGKILL to the main process"] = 0 if is_parallel else 1
    left = len(sweep.running() - orphans) - lost.get(name, 0)
    # Only where even ten times the grace is too little, a worker is cut off; the next start takes it up.
    assert left <= 0 or took >= 10 * WORKER_GRACE_S, state
    return took, after, max(left, 0)


def campaign(root: Path, kills: int, seed: int) -> Iterator[str]:
    """Kill until `kills` is reached, beginning with a fresh store whenever the sweep is done; yield what happened.

    After a few kills a sweep is left to finish, so that all moments of its life get their share on a busy machine.
    """
    rng = random.Random(seed)
    sweep = Sweep(root / "project", "optimizer", ["sgd", "adam", "sdlm", "rmsprop"], 10, "distortion=planar")
    temporary = root / "tmp"
    temporary.mkdir()
    os.environ["TMPDIR"] = str(temporary)
    started = time.monotonic()
    sweep.start().communicate(timeout=PATIENCE_S)
    life = time.monotonic() - started
    models = sweep.models()
    sweep.forget()
    done, rounds, starts, cut_off, slowest = 0, 0, 0, 0, 0.0
    phases, counts, blows = Counter(), Counter(), cycle(BLOWS)
    for launcher in cycle(["joblib", "basic"]):
        enough = min(kills, done + KILLS_PER_SWEEP)
        while True:
            orphans = sweep.running()
            process = sweep.start(f"hydra/launcher={launcher}")
            starts += 1
            if done < enough:
                with suppress(subprocess.TimeoutExpired):
                    process.wait(rng.uniform(0, life))
            if done == enough or process.poll() is not None:
                out, err = process.communicate(timeout=PATIENCE_S)
                assert process.returncode == 0, out + err
                break
            name = next(blows)
            took, after, left = struck(sweep, process, name, rng, orphans)
            done += 1
            counts[name] += 1
            cut_off += left
            slowest = max(slowest, took if BLOWS[name][1] else 0.0)
            if process.returncode == 0:  # it came too late
                phases["after the end"] += 1
                break
            phases[f"{after['FINISHED']} finished"] += 1
        sweep.assert_done_once(models)
        left = [
            *temporary.iterdir(),
            *(sweep.root / "mlruns").glob(".*"),
            *(sweep.root / "reports").glob(".*"),
        ]
        assert left == []
        rounds += 1
        yield f"round {rounds} ({launcher}): {done} kills, {starts} starts, all runs finished once, same bits"
        sweep.forget()
        if done == kills:
            break
    yield (
        f"{done} kills in {starts} starts of {rounds} sweeps of {len(models)} runs: {dict(counts)}; killed with "
        f"{dict(sorted(phases.items()))}; the slowest end of one that was told took {slowest:.1f} s, "
        f"{cut_off} runs were cut off"
    )


@pytest.mark.slow
def test_28_kills_at_random_moments(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    for line in campaign(tmp_path, 28, seed=28):
        print(line, flush=True)


@pytest.mark.soak
def test_200_kills_at_random_moments(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    for line in campaign(tmp_path, 200, seed=200):
        print(line, flush=True)
