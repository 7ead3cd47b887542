"""Studies whose trainer is a random number: real rounds, looks and verdicts on metrics with planted effects."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import product

import numpy as np
import pandas as pd

from ablations.comparison.looks import seen
from ablations.report.analysis import Analysis, analyse
from ablations.report.request import UNSAID
from ablations.sweep.rounds import Cell, Course, End, Goal
from ablations.tracking.study import Study

UNLIMITED = float("inf")


class Killed(Exception):
    """The command was killed."""


class FakeStudy:
    """A study, its store and its trainer.

    Args:
        levels: of each factor, the baseline first.
        effects: by level what it adds to the error; by two levels what they add together.
        noise: standard deviation of a run, in percentage points; runs of a seed share another part of the same size.
        margin: of the study.
        seed: of all random numbers.
        fails: settings that never give a result.
    """

    def __init__(
        self,
        levels: Mapping[str, Sequence[str]],
        effects: Mapping[tuple[str, ...], float],
        noise: float = 0.3,
        margin: float = 0.0,
        seed: int = 0,
        fails: Iterable[tuple[str, ...]] = (),
    ) -> None:
        self.levels, self.effects, self.noise, self.seed, self.fails = (
            levels,
            effects,
            noise,
            seed,
            set(fails),
        )
        self.settings = list(product(*levels.values()))
        baseline = {key: of[0] for key, of in levels.items()}
        asked = {**UNSAID, "design": "grid"}
        self.study = Study("s", tuple(levels), baseline, "test/error_pct", margin, **asked)
        self.rows: dict[Cell, dict] = {}
        self.trained: Counter[Cell] = Counter()
        self.looks: list[str] = []
        self.invocation = 0

    def error(self, setting: tuple[str, ...], seed: str) -> float:
        """The same for the same run, whenever it is made."""
        place = self.settings.index(setting)
        shared = np.random.default_rng([self.seed, int(seed)]).normal(0, self.noise)
        own = np.random.default_rng([self.seed, int(seed), 1 + place]).normal(0, self.noise)
        planted = sum(size for levels, size in self.effects.items() if set(levels) <= set(setting))
        return 5 + shared + own + planted

    def make(self, cells: Iterable[Cell], kill_after: float = UNLIMITED) -> None:
        """As a sweep makes the runs of one round: those that are there are taken over."""
        self.invocation += 1
        for setting, seed in cells:
            if (setting, seed) in self.rows:
                continue
            if kill_after <= 0:
                raise Killed
            kill_after -= 1
            self.trained[setting, seed] += 1
            self.rows[setting, seed] = self._row(setting, seed)

    def _row(self, setting: tuple[str, ...], seed: str) -> dict:
        number, id = len(self.rows), f"{self.invocation:06d}"
        fails = setting in self.fails
        return {
            "run_id": f"{number:032x}",
            "run_name": f"{setting} seed={seed}",
            "experiment_id": "1",
            "status": "FAILED" if fails else "FINISHED",
            "start_time": pd.Timestamp("2026-01-01", tz="UTC") + pd.Timedelta(seconds=number),
            "epoch_s": 1.0,
            "train_s": 1.0,
            "params.seed": seed,
            **{f"params.{key}": level for key, level in zip(self.levels, setting, strict=True)},
            "metrics.test/error_pct": np.nan if fails else self.error(setting, seed),
            "tags.sweep": "s",
            "tags.sweep_id": id,
            "tags.first_sweep_id": id,
            "tags.config_hash": f"{setting} {seed}",
            "tags.failure": "diverged" if fails else None,
        }

    def numbers(self, only_seen: bool = False) -> Analysis | None:
        runs = pd.DataFrame(self.rows.values())
        if only_seen and len(runs):
            runs = runs[seen(runs, self.looks)].reset_index(drop=True)
        return analyse(self.study, runs, (), False, self.looks) if len(runs) else None

    def look(self) -> None:
        self.looks.append(f"{self.invocation:06d}")

    def command(self, goal: Goal, began: float = 0.0, kills: Sequence[float] = ()) -> tuple[Analysis, End]:
        """What one command makes of it, in the order in which `sweep.sweep` does it; each of `kills` says after how
        many runs of a round it is killed (-0.5: after the round, -1: after the report, before that counts)."""
        course = Course(goal, dict.fromkeys(self.settings, 1), 1, began)
        cells = course.first(self.numbers(only_seen=True), self.numbers())
        kills = iter(kills)
        while True:
            kill = next(kills, UNLIMITED)
            self.make(cells, UNLIMITED if kill < 0 else kill)
            if kill == -0.5:
                raise Killed
            numbers = self.numbers()
            step = course.next(numbers, numbers)
            if kill == -1:
                raise Killed
            self.look()
            if isinstance(step, End):
                return numbers, step
            cells = step.cells

    def seeds(self) -> dict[tuple[str, ...], int]:
        """How many seeds each setting was given."""
        return Counter(setting for setting, _ in self.rows)
