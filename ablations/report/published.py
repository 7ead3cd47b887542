"""Published figures beside ours: the part of a report whose study, a YAML file, has any."""

import math
from collections.abc import Iterator

import pandas as pd

from ablations.comparison import exact
from ablations.report.escaping import Markdown, listed, md, table
from ablations.report.numbers import NO_SPREAD, number
from ablations.tracking.columns import column, numbers, param
from ablations.tracking.columns import metric as metric_column
from ablations.tracking.study import Study

# How a metric is shown: in which words, times what, with how many decimals; others under their name.
SHOWN = {
    "test/error_pct": ("test error (%)", 1, 2),
    "test/accuracy": ("test accuracy (%)", 100, 2),
    "val/accuracy": ("validation accuracy (%)", 100, 2),
    "test/softmax_loss": ("loss of a softmax over the outputs", 1, 3),
    "test/softmax_confidence": ("confidence of that softmax (%)", 100, 1),
    "test/loss": ("test loss", 1, 3),
    "test/confidence": ("confidence (%)", 100, 1),
}


ACHIEVED = {"test/error_pct": -1, "test/accuracy": 1, "val/accuracy": 1}
"""The figures that can be reached or beaten, and which way; others describe a system."""
NUMBERS = ("no", "one", "two", "three", "four", "five", "six")


def reached(runs: pd.DataFrame, study: Study) -> Markdown | None:
    """How many of the published figures the study's runs reach, in one sentence; None where none was published."""
    missed, beaten, waiting = [], 0, 0
    for experiment, entry in study.published.items():
        mine = runs[(column(runs, param("experiment")) == experiment) & runs["finished"]]
        for metric, figure in entry["figures"].items():
            if metric not in ACHIEVED or figure is None:
                continue
            _, times, decimals = SHOWN[metric]
            ours = exact.mean(numbers(mine, metric_column(metric)).dropna())
            short = round(-ACHIEVED[metric] * times * (ours - figure), decimals)
            if ours != ours:
                waiting += 1
            elif short > 0:
                missed.append(short)
            else:
                beaten += 1
    several = len(missed) + beaten
    if not several + waiting:
        return None
    if not several:
        return md("No run finished, so that no published figure can be said to be reached.")
    by = (
        " and ".join(
            [", ".join(f"{each:g}" for each in sorted(missed)[:-1]), f"{max(missed):g}"][len(missed) < 2 :]
        )
        if missed
        else ""
    )
    count = NUMBERS[len(missed)] if len(missed) < len(NUMBERS) else str(len(missed))
    rest = f"; {count} {'is' if len(missed) == 1 else 'are'} missed{',' if len(missed) > 1 else ''} by {by} points"
    still = f"; {waiting} more {'has' if waiting == 1 else 'have'} no finished run yet" if waiting else ""
    share = f"All {several}" if not missed else f"{beaten or 'None'} of {several}"
    figures = "The one published figure" if beaten == several == 1 else f"{share} published figures"
    verb = "is" if beaten < 2 else "are"
    return md(
        "**{} {} reached or beaten** by means, without a test{}{}.",
        figures,
        verb,
        rest if missed else "",
        still,
    )


def published(runs: pd.DataFrame, study: Study) -> Iterator[Markdown]:
    """Paragraphs that set the study's published figures beside those of its runs, one experiment after the other.

    Nothing for a study without published figures. `runs` are as the report ranked them, with the columns `finished`,
    `epoch_s` and `train_s`.
    """
    if not study.published:
        return
    figures, times, reasons = [], [], []
    for experiment, entry in study.published.items():
        mine = runs[(column(runs, param("experiment")) == experiment) & runs["finished"]]
        shown = [*entry["figures"].items(), *((metric, None) for metric in entry.get("shown", []))]
        figures += [(entry["system"], *_beside(mine, metric, figure)) for metric, figure in shown]
        then, epoch, whole = entry.get("seconds_per_epoch"), mine["epoch_s"].min(), mine["train_s"].min() / 60
        times.append((entry["system"], NO_SPREAD if then is None else then, number(epoch), number(whole, 1)))
        if why := entry.get("why"):
            reasons.append(md("**{}**: {}", entry["system"], why))

    yield md("## Published and ours")
    head = ("system", "figure", "published", "ours: mean", "lowest to highest", "seeds", "ours − published")
    yield table(head, figures, numeric=5)
    yield md("### Why they differ where they do")
    yield listed(reasons)
    yield md("### Seconds per epoch, then and now")
    yield table(("system", "then", "now", "minutes of a whole training now"), times, numeric=3)
    yield md(
        "Then: as published, on its author's machine; {} where nothing was. Now: the least disturbed seed, its median "
        "epoch and its whole training, on the machine below, one thread for each run.",
        NO_SPREAD,
    )
    for heading, text in study.sections.items():
        yield md("### {}", heading)
        yield md("{}", text)


def _beside(runs: pd.DataFrame, metric: str, figure: float | None) -> tuple[str, ...]:
    """The metric in words, the published figure, our mean, range and seeds, and the difference."""
    words, times, decimals = SHOWN.get(metric, (metric, 1, 3))
    theirs = NO_SPREAD if figure is None else f"{times * figure:.{decimals}f}"
    ours = times * runs[metric_column(metric)].dropna() if metric_column(metric) in runs else pd.Series()
    if ours.empty:
        return (words, theirs, NO_SPREAD, NO_SPREAD, "0", NO_SPREAD)
    reached = exact.mean(ours)
    mean, low, high = (f"{value:.{decimals}f}" for value in (reached, ours.min(), ours.max()))
    gap = math.nan if figure is None else exact.digits(reached - times * figure)
    difference = NO_SPREAD if figure is None else f"{gap:+z.{decimals}f}"
    return (words, theirs, mean, f"{low} to {high}", str(len(ours)), difference)
