"""What a report says of how long its runs were trained, and whether that was long enough."""

import math
from collections.abc import Iterator, Sequence

import pandas as pd

from ablations.comparison import exact, tests
from ablations.comparison.lengths import LENGTHS, VALIDATION
from ablations.report.analysis import Analysis
from ablations.report.escaping import Markdown, md, table
from ablations.report.naming import variant_name
from ablations.report.numbers import NO_SPREAD, number
from ablations.tracking.columns import NOT_LOGGED, column, param
from ablations.tracking.study import label

LEVEL, GAINING, LOSING, UNKNOWN = "level", "still improving", "getting worse", "not clear"
ANNEALED_LEVEL = "level, its rate at 0"
SCHEDULE = "trainer.schedule"
LITTLE = 0.001  # of an accuracy: a tenth of a percentage point

HOW = (
    "What the {} still did at the end: its mean over the last fifth of the epochs less that over the fifth before, "
    "as a fraction, with a 95 % interval over the seeds. *{}*: the whole interval lies within ±{}; else *{}*: above 0; "
    "*{}*: below; *{}*: neither, or too few seeds or epochs to tell."
)
SUFFICES = "All variants had levelled off, so that training for longer would hardly change the comparison."
GAINS = "**Not trained to its end**: {}. What is said of it holds for training of this length; it would gain from more."
ANNEALED = (
    "The learning rate of {} went down to nearly 0 ({}), which levels a curve by itself: what further epochs would "
    "bring takes a training that has them from the start."
)
LOSES = "**Past its best**: {}. It would do better with fewer epochs."


def at_the_end(analysis: Analysis) -> dict[int, str]:
    """By variant what its validation accuracy still did; of those that validated after at least `FEWEST` epochs."""
    return {variant: _judged(test) for variant, (test, _) in _late_gains(analysis).items()}


def how_long(analysis: Analysis) -> Iterator[Markdown]:
    """A table of variants; nothing where no run validated after at least `FEWEST` epochs."""
    found = _late_gains(analysis)
    if not found:
        return
    runs = analysis.runs[analysis.runs["finished"].astype(bool)]
    falling = _falling(runs)
    rows, names = [], {}
    for variant, row in analysis.variants.to_dict("index").items():
        levels = [row[param(key)] for key in analysis.study.factors]
        own = runs[runs["variant"] == variant]
        epochs, best = (exact.mean(own[name].dropna()) for name in LENGTHS[:2])
        judged, cells = UNKNOWN, (NO_SPREAD, NO_SPREAD)
        if variant in found:
            test, gain = found[variant]
            judged = _judged(test)
            ends = (
                f"[{test.low:+.4f}, {test.high:+.4f}]" if math.isfinite(test.high - test.low) else "no limits"
            )
            cells = f"{gain:+.4f}", ends
        names.setdefault(judged, []).append(variant_name(row, analysis.study))
        shown = ANNEALED_LEVEL if judged == LEVEL and variant in falling else judged
        rows.append((*(levels or ["all runs"]), shown, f"{epochs:g}", number(best, 1), *cells))
    heads = ("at the end", "epochs", "best epoch", "last gain", "95 % interval")
    yield md("## How long it trained")
    yield table((*(analysis.study.factors or ("",)), *heads), rows, numeric=4)
    said = [md(HOW, label(VALIDATION), LEVEL, f"{LITTLE:g}", GAINING, LOSING, UNKNOWN)]
    if falling:
        said.append(md(ANNEALED, _whose(analysis, sorted(falling)), SCHEDULE))
    elif {*names} == {LEVEL}:
        said.append(md(SUFFICES))
    said += [
        md(words, "; ".join(names[kind]))
        for kind, words in ((GAINING, GAINS), (LOSING, LOSES))
        if kind in names
    ]
    yield md(" ").join(said)


def _falling(runs: pd.DataFrame) -> set[int]:
    """The variants whose learning rate goes down to nearly 0."""
    schedules = column(runs, param(SCHEDULE)).dropna().astype(str)
    return {*runs.loc[schedules.index[~schedules.isin(["None", NOT_LOGGED])], "variant"]}


def _whose(analysis: Analysis, chosen: Sequence[int]) -> str:
    """These variants in words; where they are most, those that they are not."""
    names = {at: variant_name(row, analysis.study) for at, row in analysis.variants.to_dict("index").items()}
    rest = [name for at, name in names.items() if at not in chosen]
    if len(rest) < len(chosen):
        return f"all variants but {'; '.join(rest)}" if rest else "all variants"
    return "; ".join(names[at] for at in chosen)


def _late_gains(analysis: Analysis) -> dict[int, tuple[tests.SignFlip, float]]:
    """By variant the sign-flip test of its seeds' late gains, and their mean."""
    runs = analysis.runs[analysis.runs["finished"].astype(bool)]
    if not {*LENGTHS} <= {*runs.columns}:
        return {}
    gains = runs.dropna(subset="late_gain").groupby("variant")["late_gain"]
    return {int(variant): (tests.sign_flip(of.to_numpy()), exact.mean(of)) for variant, of in gains}


def _judged(test: tests.SignFlip) -> str:
    if test.low > -LITTLE and test.high < LITTLE:
        return LEVEL
    return GAINING if test.low > 0 else LOSING if test.high < 0 else UNKNOWN
