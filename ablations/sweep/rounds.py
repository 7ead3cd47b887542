"""Which runs a study needs next that runs until it is settled, round by round, or what ends it."""

import math
import re
import time
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from ablations.commands import duration, many
from ablations.errors import InputError
from ablations.sweep.composing import PlannedRun
from ablations.sweep.overrides import Given
from ablations.sweep.plan import Plan
from ablations.tracking.accepted import MOST_SEEDS, is_seeds
from ablations.tracking.columns import param, text

if TYPE_CHECKING:
    from ablations.comparison.prospects import Prospect
    from ablations.report.analysis import Analysis

SETTLED = "settled"
OPTIONS = ("budget", "seeds_at_least", "seeds_at_most")
"""Keys that say how to get there."""
UNITS_S = {"h": 3600, "m": 60, "s": 1}
BUDGET = re.compile(r"(?=\d)(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?")
DONE, OUT_OF_TIME = "done", "budget"
"""What ends a study: everything is settled or given up, or the next round would go beyond the budget."""

Setting = tuple[str, ...]
"""The level of each factor."""
Cell = tuple[Setting, str]
"""A setting and a seed."""


@dataclass(frozen=True)
class Goal:
    """To settle every comparison.

    Attributes:
        at_least: seeds that each is given before it may be given up.
        at_most: seeds that each may be given: those from 0 on.
        budget_s: seconds after whose end no round may go on; infinite for none.
    """

    at_least: int
    at_most: int
    budget_s: float = math.inf


@dataclass(frozen=True)
class Round:
    """Runs that are needed next: their cells, seed by seed; how many are not there, and how many seconds those take."""

    cells: tuple[Cell, ...]
    runs: int
    seconds: float


@dataclass(frozen=True)
class End:
    """Why there is no further round, and how many runs and seconds the one would be that is not begun."""

    reason: str
    runs: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class Pace:
    """How fast runs are made: seconds for each, and how many at a time."""

    seconds: float
    workers: int = 1

    def of(self, runs: int) -> float:
        """Seconds for so many runs."""
        return math.ceil(runs / self.workers) * self.seconds


def goal_of(config: DictConfig, given: Mapping[str, Given]) -> Goal | None:
    """What `until` asks for; None for a sweep over given seeds.

    Raises:
        InputError: another value than `settled`, an option without it or that is none, or seeds beside it.
    """
    if config.until is None:
        if needless := [key for key in OPTIONS if key in given]:
            raise InputError(
                f"{needless[0]}: it is for a study that runs until it is settled; add until=settled"
            )
        return None
    if config.until != SETTLED:
        raise InputError(f"until: must be {SETTLED}, got {config.until}")
    for key in ("seed", "study.seeds"):
        if key in given:
            raise InputError(
                f"{given[key].line}: until=settled decides which seeds are run; leave it out (seeds_at_least and "
                "seeds_at_most bound their number)"
            )
    if config.sweep.id is not None:
        raise InputError("sweep.id: until=settled has one for each of its rounds; leave it out")
    for key in OPTIONS[1:]:
        if not is_seeds(config[key]):
            raise InputError(f"{key}: a number of seeds up to {MOST_SEEDS} is expected, got {config[key]}")
    least, most = config.seeds_at_least, config.seeds_at_most
    if least > most:
        raise InputError(f"seeds_at_least: must be at most seeds_at_most={most}, got {least}")
    return Goal(least, most, math.inf if config.budget is None else seconds_of(config.budget))


def seconds_of(budget: Any) -> float:
    """`90s`, `30m`, `2h` or `1h30m` in seconds. Raises InputError for anything else."""
    found = BUDGET.fullmatch(str(budget))
    counts = found.groups(default="0") if found else ()
    seconds = sum(int(count) * of for count, of in zip(counts, UNITS_S.values(), strict=False))
    if seconds == 0:
        raise InputError(f"budget: a time is expected as 90s, 30m, 2h or 1h30m, got {budget}")
    return float(seconds)


def next_round(
    found: "Sequence[Prospect]",
    settings: Mapping[Setting, int],
    there: Collection[Cell],
    asked: Collection[Cell],
    goal: Goal,
    left_s: float,
    pace: Pace,
) -> Round | End:
    """The runs that the open comparisons need for their next look, or what ends the study.

    What only settled comparisons, or such that were given up, would need is not in it. First of all every setting is
    given its least seeds.

    Args:
        found: what can be expected of each comparison.
        settings: all that are compared, with the number of runs that each takes for a seed.
        there: cells with a result.
        asked: cells that were to be run before; those without a result are not asked for again.
        goal: what is to be reached.
        left_s: seconds of the budget that are left.
        pace: how fast runs are made.
    """
    from ablations.comparison.prospects import Standing

    begun = {setting for setting, _ in asked}
    if settings.keys() <= begun:
        wanted = {
            cell
            for each in found
            if each.standing is Standing.OPEN
            for cell in _needed(each, settings, asked)
        }
    else:
        wanted = {(setting, str(seed)) for seed in range(goal.at_least) for setting in settings}
    order = {setting: place for place, setting in enumerate(settings)}
    cells = tuple(sorted(wanted, key=lambda cell: (int(cell[1]), order[cell[0]])))
    runs = sum(settings[setting] for setting, seed in cells if (setting, seed) not in there)
    seconds = pace.of(runs)
    if not cells:
        return End(DONE)
    return Round(cells, runs, seconds) if seconds <= left_s else End(OUT_OF_TIME, runs, seconds)


def _needed(each: "Prospect", settings: Mapping[Setting, int], asked: Collection[Cell]) -> Iterator[Cell]:
    """The cells of a comparison at the seeds of its next look."""
    count = len(next(iter(settings)))
    own = [setting[:count] for setting in each.comparison.settings]
    own = own if own and settings.keys() >= set(own) else list(settings)
    new = [seed for seed in each.spare if any((setting, seed) not in asked for setting in own)]
    for seed in new[: each.next]:
        yield from ((setting, seed) for setting in own)


def cells_in(analysis: "Analysis", settings: Mapping[Setting, int]) -> tuple[set[Cell], set[Cell]]:
    """The cells all of whose runs have a result, and those with any run at all."""
    from ablations.comparison.outcomes import Outcome

    runs = analysis.everything
    levels = [runs[param(key)].map(text) for key in analysis.study.factors]
    cells = list(zip(zip(*levels, strict=True), runs[param("seed")].map(text), strict=True))
    finished = Counter(
        cell for cell, how in zip(cells, runs["outcome"], strict=True) if how == Outcome.FINISHED
    )
    known = {cell for cell in cells if cell[0] in settings}
    return {cell for cell in known if finished[cell] >= settings[cell[0]]}, known


def variants_of(planned: Plan, runs: Sequence[PlannedRun]) -> dict[Setting, list[tuple[str, ...]]]:
    """Of each setting the overrides of its runs, one for each of the values that are tuned.

    Args:
        planned: what is asked for.
        runs: its configurations.

    Raises:
        InputError: there is nothing to compare.
    """
    found: dict[Setting, list[tuple[str, ...]]] = {}
    for overrides, run in zip(planned.settings, runs, strict=False):
        found.setdefault(tuple(run.logged(key) for key in planned.factors), []).append(overrides)
    if len(found) < 2:
        raise InputError(
            "until=settled: there is one variant only, with nothing to compare it with; sweep a key"
        )
    return found


@dataclass
class Course:
    """A study on its way from round to round, as far as this command knows it.

    Attributes:
        goal: what is to be reached.
        settings: all that are compared, with the number of runs that each takes for a seed.
        workers: how many runs go on at a time.
        began: when the command did, by the clock of `time.monotonic`.
        asked: cells that it asked for.
        spent_s: seconds that its rounds took, with all that comes with them.
        turns: how many runs each worker has made in these.
    """

    goal: Goal
    settings: Mapping[Setting, int]
    workers: int
    began: float
    asked: set[Cell] = field(default_factory=set)
    spent_s: float = 0.0
    turns: int = 0

    def first(self, seen: "Analysis | None", there: "Analysis | None", seconds: float = 0.0) -> list[Cell]:
        """The cells to begin with: all that reports have shown, and what is needed after that.

        Args:
            seen: what some report has shown; None for nothing.
            there: what there is besides, as of a round that was not finished.
            seconds: that a run is said to take, where none has been made.

        Raises:
            InputError: not even the first round is within the budget.
        """
        known = set() if seen is None else cells_in(seen, self.settings)[1]
        allowed = set(map(str, range(self.goal.at_most)))
        self.asked |= {cell for cell in known if cell[1] in allowed}
        before = set(self.asked)
        step = self.next(seen, there, seconds)
        if isinstance(step, End) and not before:
            raise InputError(
                f"budget: the first round, {many(step.runs, 'run')}, takes about {duration(step.seconds)}; accepted: a "
                "budget that is longer, or fewer seeds (seeds_at_least)"
            )
        order = {setting: place for place, setting in enumerate(self.settings)}
        cells = before | set(step.cells if isinstance(step, Round) else ())
        return sorted(cells, key=lambda cell: (int(cell[1]), order[cell[0]]))

    def next(self, seen: "Analysis | None", there: "Analysis | None", seconds: float = 0.0) -> Round | End:
        """What is needed after a look, or what ends the study; arguments as those of `first`."""
        from ablations.report.progress import prospects_of

        goal = self.goal
        found = [] if seen is None else prospects_of(seen, goal.at_least, goal.at_most)
        done = set() if there is None else cells_in(there, self.settings)[0]
        left_s = goal.budget_s - (time.monotonic() - self.began)
        step = next_round(found, self.settings, done, self.asked, goal, left_s, self._pace(there, seconds))
        if isinstance(step, Round):
            self.asked |= set(step.cells)
        return step

    def _pace(self, analysis: "Analysis | None", seconds: float) -> Pace:
        """As these rounds went, but no faster than runs are trained: some may have been there already."""
        trained = math.nan if analysis is None else float(analysis.everything["train_s"].median())
        measured = self.spent_s / self.turns if self.turns else 0.0
        known = max((each for each in (measured, trained) if each == each), default=0.0)
        return Pace(known or seconds, self.workers)

    def took(self, runs: int, seconds: float) -> None:
        """Take note of how long a round of so many runs was."""
        self.turns += math.ceil(runs / self.workers)
        self.spent_s += seconds if runs else 0.0

    def told(self, step: Round | End | None = None) -> dict[str, Any]:
        """What the record of the study says of it."""
        said: dict[str, Any] = {"seeds_at_least": self.goal.at_least, "seeds_at_most": self.goal.at_most}
        if isinstance(step, End):
            said["ended"] = step.reason
        if isinstance(step, End) and step.reason == OUT_OF_TIME:
            said |= {"budget_s": self.goal.budget_s, "next_s": step.seconds}
        return said
