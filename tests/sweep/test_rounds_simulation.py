"""What a study that runs until it is settled comes to, over simulated studies whose truth is known.

`pytest -m slow tests/sweep/test_rounds_simulation.py` holds 500 studies of each kind to the promises;
`python tests/sweep/test_rounds_simulation.py` prints the table of docs/studies.md.
"""

import gc
import random
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import mean

import pytest
from fake_studies import UNLIMITED, FakeStudy, Killed

from ablations.comparison.verdicts import Verdict
from ablations.sweep.rounds import Goal

GOAL = Goal(8, 40)
ONE_FACTOR = {"a": ["0", "1", "2", "3"]}
GRID = {"a": ["0", "1"], "b": ["p", "q"]}


@dataclass(frozen=True)
class Kind:
    """Studies of one kind: what is planted, with the noise of a run, in percentage points; differences within one
    variant have √2 of it as their standard deviation."""

    levels: Mapping[str, list[str]]
    effects: Mapping[tuple[str, ...], float]
    margin: float = 0.0
    noise: float = 0.3


KINDS = {
    "nothing there": Kind(ONE_FACTOR, {}),
    "one large, one medium, one nothing": Kind(ONE_FACTOR, {("1",): 1.5, ("2",): 0.4}),
    "the same, margin 0.3": Kind(ONE_FACTOR, {("1",): 1.5, ("2",): 0.4}, margin=0.3),
    "grid, one factor matters": Kind(GRID, {("1",): 0.4}),
}


@dataclass(frozen=True)
class Outcome:
    """Of one study: whether any *better* or *worse* is false, and any *no difference that matters*, which rests on an
    interval of its own that is not corrected; the share of comparisons settled, runs, and those of 40 seeds each."""

    false: bool
    falsely_equal: bool
    settled: float
    runs: int
    fixed: int


def outcome(kind: Kind, seed: int, kills: random.Random | None = None) -> Outcome:
    """What a study comes to, killed at random moments where there are `kills`."""
    study = FakeStudy(kind.levels, kind.effects, kind.noise, kind.margin, seed)
    while True:
        moments = [kills.choice([kills.randrange(30), -0.5, -1, UNLIMITED])] if kills else ()
        try:
            analysis, _ = study.command(GOAL, kills=moments)
            break
        except Killed:
            continue
    assert set(study.trained.values()) == {1}
    rows = analysis.effects.to_dict("records")
    settled = mean(Verdict(row["verdict"]).settled for row in rows)
    wrong = {str(row["verdict"]) for row in rows if is_false(kind, row)}
    return Outcome(
        bool(wrong & {"better", "worse"}),
        "no difference that matters" in wrong,
        settled,
        len(study.rows),
        len(study.settings) * GOAL.at_most,
    )


def is_false(kind: Kind, row: dict) -> bool:
    """Whether the verdict of a row is false."""
    truth = kind.effects.get(row["variant"], 0.0)
    wrong = {
        Verdict.BETTER: truth >= 0,
        Verdict.WORSE: truth <= 0,
        Verdict.NO_DIFFERENCE: abs(truth) > kind.margin,
    }
    return wrong.get(Verdict(row["verdict"]), False)


def simulated(
    kind: Kind, studies: int, kills: random.Random | None = None
) -> tuple[float, float, float, float]:
    """Shares: of studies with any false *better* or *worse*, and with any false *no difference*; of comparisons that
    are settled; of the runs of 40 seeds each that are saved."""
    gc.freeze()  # each correction by statsmodels collects garbage, which takes far longer than the rest
    found = [outcome(kind, seed, kills) for seed in range(studies)]
    gc.unfreeze()
    saved = 1 - sum(each.runs for each in found) / sum(each.fixed for each in found)
    names = ("false", "falsely_equal", "settled")
    return *(mean(getattr(each, name) for each in found) for name in names), saved


def test_a_few_studies():
    false, _, settled, saved = simulated(KINDS["one large, one medium, one nothing"], 6, random.Random(0))
    assert false <= 2 / 6
    assert settled >= 1 / 3
    assert saved > 0.3


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_false_verdicts_are_rare_and_runs_are_saved(kind):
    false, falsely_equal, _, saved = simulated(KINDS[kind], 500, random.Random(0))
    assert false <= 0.055
    assert falsely_equal <= 0.055
    assert saved > 0.3


if __name__ == "__main__":
    print("| studies | false better or worse | false no difference | settled | runs saved |")
    print("| --- | --- | --- | --- | --- |")
    for name, kind in KINDS.items():
        shares = " | ".join(f"{share:.1%}" for share in simulated(kind, 500))
        print(f"| {name} | {shares} |", flush=True)
