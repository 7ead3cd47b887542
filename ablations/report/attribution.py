"""What a report says of how much each factor has to do with the outcome."""

from collections.abc import Iterator, Sequence

import pandas as pd

from ablations.commands import many
from ablations.comparison import attribution
from ablations.comparison.attribution import MOST_FACTORS
from ablations.report.analysis import Analysis
from ablations.report.escaping import Markdown, crossed, md, table
from ablations.report.numbers import forms
from ablations.tracking.columns import NOT_LOGGED, column, param

MOST_ROWS = 12
SEED = "the seed, the same for all settings"
REST = "the rest: what a seed does in one setting and not in another"
SEVERAL = REST + ", and interactions of three factors and more"

SHARES = (
    "How much of the variance of the {} between {} (all settings with {}) goes with what. Shares belong to the levels "
    "that were tried: others would give other shares."
)
GAP = (
    "From {} to {} the {} changes by {} in all. Each factor's part is what changing it brings, on average over all "
    "orders in which the factors could be changed (Shapley values); the parts sum to the whole. They are estimates "
    "over {}, with intervals that are not corrected, and no verdicts."
)
OTHER_LEVELS = (
    "How the gap between two variants falls to the factors (Shapley values) is said of full grids of up to {} factors "
    "with two levels each; here {}."
)


def shares_of_factors(analysis: Analysis) -> Iterator[Markdown]:
    """The shares of variance, and in a full grid of factors with two levels the Shapley values; nothing where not
    every setting was run with the same seeds, nor of a study of published figures."""
    study, runs = analysis.study, analysis.runs
    factors = [key for key in study.factors if len(_levels(analysis, key)) > 1]
    found = None if study.published else attribution.grid(runs, factors)
    shares = None if found is None else attribution.shares(found[2], factors)
    if found is None or shares is None:
        return
    yield md("### How much each factor has to do with it")
    rest = REST if len(factors) < 3 else SEVERAL
    yield table(("factor", "share of the variance"), _shares(shares, rest), numeric=1)
    yield md(SHARES, study.noun, many(found[2].size, "run"), many(len(found[1]), "seed"))
    if len(factors) > 1:
        yield from _parts(analysis, factors)


def _levels(analysis: Analysis, key: str) -> set[str]:
    return set(column(analysis.runs, param(key)).dropna()) - {NOT_LOGGED}


def _shares(shares: pd.DataFrame, rest: str) -> list[tuple[str, str]]:
    """The largest shares in order, then those of the seeds."""
    of_factors = shares.iloc[:-2].sort_values("share", ascending=False, kind="stable")
    rows = [(crossed(row["factors"]), row["share"]) for row in of_factors.head(MOST_ROWS).to_dict("records")]
    if len(of_factors) > MOST_ROWS:
        others = of_factors["share"].iloc[MOST_ROWS:]
        rows.append((f"{len(others)} others together", others.sum()))
    rows += zip((SEED, rest), shares["share"].iloc[-2:], strict=True)
    return [(name, f"{100 * share:.0f} %") for name, share in rows]


def _parts(analysis: Analysis, factors: Sequence[str]) -> Iterator[Markdown]:
    """The Shapley values beside the total, or why there are none."""
    study, form = analysis.study, forms(analysis)[analysis.study.metric]
    found = attribution.shapley(analysis.runs, factors, study.baseline)
    if found is None:
        levels = {key: len(_levels(analysis, key)) for key in factors}
        several = [f"{key} has {number}" for key, number in levels.items() if number > 2]
        yield md(OTHER_LEVELS, MOST_FACTORS, ", ".join(several) or f"there are {len(factors)} factors")
        return
    parts, other = found
    total = parts.iloc[-1]
    base = " ".join(f"{key}={study.baseline[key]}" for key in factors)
    changed = " ".join(f"{key}={level}" for key, level in other.items())
    size = f"{form.difference(total['mean'])} {form.unit}".rstrip()
    yield md(GAP, base, changed, study.noun, size, many(int(total["n"]), "seed"))
    rows = [
        (
            f"{row['factor']}: {other[row['factor']]}" if row["factor"] else "in all",
            form.difference(row["mean"]),
            form.interval(row["low"], row["high"]),
        )
        for row in parts.to_dict("records")
    ]
    yield table(("factor", "part of the gap", "95 % interval"), rows, numeric=2)
