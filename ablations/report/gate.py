"""A gate for continuous integration: which comparisons keep a change from passing."""

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from ablations.errors import InputError
from ablations.report.escaping import crossed, plain

if TYPE_CHECKING:
    import pandas as pd

    from ablations.comparison.verdicts import Verdict

WORSE, INCONCLUSIVE, CONFOUNDED = "worse", "inconclusive", "confounded"
ACCEPTED = (WORSE, INCONCLUSIVE, CONFOUNDED)
NOTHING = "nothing"
"""Is there to be judged."""


def failing(text: str, margin: float | None = None) -> tuple[str, ...]:
    """What fails a gate, as the command line names it. Raises InputError for another word, and for a margin that is
    below 0 or that nothing asks for."""
    words = tuple(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))
    for word in words:
        if word not in ACCEPTED:
            raise InputError(f"--fail-if {plain(word)}: accepted are {', '.join(ACCEPTED)}")
    if margin is not None and not 0 <= margin < math.inf:
        expected = "a number of at least 0 is expected, in the metric's unit"
        raise InputError(f"--non-inferiority {margin:g}: {expected}")
    if margin is not None and not words:
        raise InputError(f"--non-inferiority {margin:g}: say with --fail-if what must not be")
    return words


def held_up_by(
    effects: "pd.DataFrame", smaller: bool, fail_if: Sequence[str], margin: float | None = None
) -> list[str]:
    """The comparisons of one factor that are one of `fail_if`, in words.

    Without a margin the verdict decides; too few seeds are inconclusive. With one, the variant passes where the
    interval shows that it is at most so much worse than its baseline (not inferior), whatever the verdict; where it
    does not show that, it is worse where the verdict says so, and inconclusive where it does not. A comparison without
    any result, and a study in which nothing was compared, never pass a gate.

    Args:
        effects: of one metric, columns `verdicts.COLUMNS`, and `at` where some are at a level of another factor.
        smaller: whether smaller values of it are better.
        fail_if: of `ACCEPTED`.
        margin: of non-inferiority, in the metric's unit, at least 0.
    """
    failing = {*fail_if, NOTHING} if fail_if else set()
    return [line for line, is_ in _found(effects, smaller, margin) if is_ in failing]


def _found(effects: "pd.DataFrame", smaller: bool, margin: float | None) -> Iterator[tuple[str, str]]:
    from ablations.comparison.verdicts import Verdict

    if effects.empty:
        yield "nothing was compared", NOTHING
    for row in effects[effects["factors"].map(len) == 1].to_dict("records"):
        at_worst = row["ci_high"] if smaller else -row["ci_low"]
        verdict = Verdict(row["verdict"])
        # A look that cannot settle anything shows nothing either.
        shown = margin is not None and at_worst <= margin and verdict != Verdict.TOO_FEW
        is_ = _is(verdict, shown, margin is not None)
        name = f"{crossed(row['factors'])}: {crossed(row['variant'])} against {crossed(row['baseline'])}"
        beyond = "" if margin is None else f" (not shown to be at most {margin:g} worse)"
        at = f" at {row['at']}" if row.get("at") else ""
        if not row["n"] and is_ != CONFOUNDED:
            yield f"{plain(name + at)} has no result", NOTHING
        else:
            yield f"{plain(name + at)} is {is_}{beyond}", is_


def _is(verdict: "Verdict", shown_not_inferior: bool, asked: bool) -> str:
    if verdict == CONFOUNDED:
        return CONFOUNDED
    if shown_not_inferior:
        return "not inferior"
    if verdict == WORSE:
        return WORSE
    return INCONCLUSIVE if asked or not verdict.settled else str(verdict)
