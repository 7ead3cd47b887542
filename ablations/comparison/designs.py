"""What a study's design asks for: nuisance factors at their best values, the comparisons of ladders and fractions, and
which effects depend on each other, or cannot be told apart."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, pairwise

import pandas as pd

from ablations.comparison import exact, tests
from ablations.comparison.confounds import Rules, merged
from ablations.comparison.outcomes import Outcome, with_outcomes
from ablations.comparison.pairs import Cells, Comparison
from ablations.comparison.tests import ALPHA, SignFlip
from ablations.tracking.columns import NOT_LOGGED, column, natural, number, param, text

WHOLE = ("all steps",)
"""In place of a factor, of the comparison of a ladder's last step with its first."""


def tuned(
    runs: pd.DataFrame,
    factors: Sequence[str],
    nuisance: Sequence[str],
    metric: str = "val/accuracy",
    smaller_is_better: bool = False,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Each variant at the nuisance values that serve it best on validation images, and what it was given.

    Of the combinations of values tried, those that diverged in the fewest runs are considered, and of these the one
    with the best mean of the metric over its finished runs is chosen. The test set has no say.

    Args:
        runs: with every value that was tried.
        factors: the params that are compared.
        nuisance: the params that are chosen for each variant, such as `optimizer.lr`.
        metric: the validation metric that chooses.
        smaller_is_better: whether it is a loss or an error.

    Returns:
        The runs at the chosen values (all runs of a variant none of whose runs finished), and one row per variant:
        the params of factors and of nuisance factors (as chosen, missing where none finished), `tried` (of each
        nuisance factor every value, in order), `combinations`, `runs` (the budget), `diverged`, `validation` (mean
        of the metric at the choice) and `edge` (the nuisance factors whose chosen value is the smallest or largest
        of several numbers tried: a better one may lie beyond).

    Raises:
        InputError: no run has the metric.
    """
    frame = with_outcomes(runs, metric).reset_index(drop=True)
    logged = (column(frame, param(key)) for key in (*factors, *nuisance))
    settings = list(zip(*([text(level) or NOT_LOGGED for level in levels] for levels in logged), strict=True))
    at = pd.Series([setting[len(factors) :] for setting in settings], dtype=object)
    by_variant: dict[tuple[str, ...], list[int]] = {}
    for i, setting in enumerate(settings):
        by_variant.setdefault(setting[: len(factors)], []).append(i)
    kept, rows = [], []
    for variant in sorted(by_variant, key=lambda levels: [natural(level) for level in levels]):
        own = frame.loc[by_variant[variant]]
        given = at[own.index]
        values, validation = _best_values(own, given, smaller_is_better)
        kept += list(own.index if values is None else own.index[[each == values for each in given]])
        chosen = dict(zip(nuisance, values or (None,) * len(nuisance), strict=True))
        columns = zip(nuisance, zip(*given, strict=True), strict=True)
        tried = {key: tuple(sorted(set(values), key=natural)) for key, values in columns}
        row = {param(key): level for key, level in (*zip(factors, variant, strict=True), *chosen.items())}
        row |= {"tried": tried, "combinations": given.nunique(), "runs": len(own), "validation": validation}
        row["diverged"] = int((own["outcome"] == Outcome.DIVERGED).sum())
        row["edge"] = tuple(key for key, value in chosen.items() if _at_edge(value, tried[key]))
        rows.append(row)
    return runs.iloc[sorted(kept)].reset_index(drop=True), pd.DataFrame(rows)


def _best_values(
    runs: pd.DataFrame, at: pd.Series, smaller_is_better: bool
) -> tuple[tuple[str, ...] | None, float]:
    """Of a variant's nuisance values, `at` those of its runs, the best ones and their mean on validation."""
    candidates = []
    for values in sorted(set(at), key=lambda levels: [natural(level) for level in levels]):
        tried = runs[[each == values for each in at]]
        mean = exact.mean(tried.loc[tried["outcome"] == Outcome.FINISHED, "value"])
        if not math.isnan(mean):
            diverged = int((tried["outcome"] == Outcome.DIVERGED).sum())
            candidates.append(((diverged, mean if smaller_is_better else -mean), values, mean))
    _, values, mean = min(candidates, key=lambda candidate: candidate[0], default=(None, None, math.nan))
    return values, mean


def _at_edge(value: str | None, tried: Sequence[str]) -> bool:
    ordered = sorted(each for each in map(_size, tried) if not math.isnan(each))
    return len(ordered) > 1 and _size(value) in (ordered[0], ordered[-1])


def _size(level: str | None) -> float:
    """A number; of a list, as of rates by epoch, the first."""
    return number(str(level).strip("[]").partition(",")[0])


def dependences(table: pd.DataFrame) -> pd.DataFrame:
    """The main effects that an interaction outweighs, and what they depend on.

    Args:
        table: as `tabulate` gives it.

    Returns:
        One row for each main effect and interaction of larger size: `factor`, `variant`, `baseline`, `main` (its
        mean difference), `on`, `on_variant`, `on_baseline` (the other factor and its two levels), `interaction`
        (the mean difference of differences) and `established` (whether the interaction's corrected p is below 0.05;
        else it may be chance).
    """
    rows = []
    effects = table.to_dict("records")
    main = {(*row["factors"], *row["variant"], *row["baseline"]): row["mean_diff"] for row in effects}
    for row in effects:
        sides = list(zip(row["factors"], row["variant"], row["baseline"], strict=True))
        for own, other in (sides, sides[::-1]) if len(sides) == 2 else ():
            if abs(row["mean_diff"]) > abs(main.get(own, math.inf)):
                rows.append((*own, main[own], *other, row["mean_diff"], row["p_holm"] < ALPHA))
    columns = ["factor", "variant", "baseline", "main", "on", "on_variant", "on_baseline", "interaction"]
    return pd.DataFrame(rows, columns=[*columns, "established"])


def ladder(
    runs: pd.DataFrame,
    steps: Mapping[str, Sequence[str]],
    metric: str,
    averaged: Sequence[str] = (),
    rules: Rules = Rules(),  # noqa: B008  # frozen
) -> tuple[Comparison, ...]:
    """Each step of a ladder against the one before it, then the last against the first, where these are two.

    Args:
        runs: those of the study, as for `comparisons`.
        steps: by factor its levels in the order in which they are added, first the one that the ladder starts from.
        metric: name of the outcome.
        averaged: as for `comparisons`.
        rules: what the two sides of a comparison may differ in.

    Raises:
        InputError: no run, or no such metric.
    """
    cells = Cells(runs, (*steps, *averaged), metric, rules)
    start = {factor: levels[0] for factor, levels in steps.items()}
    found, last = [], dict(start)
    for factor, levels in steps.items():
        for before, level in pairwise(levels):
            rest = tuple((key, there) for key, there in last.items() if key != factor)
            found.append(replace(cells.compare({factor: level}, {factor: before}, rest), at=()))
            last[factor] = level
    if len(found) > 1:
        whole = cells.compare(last, start, jointly=True)
        differing = replace(merged([each.differing for each in found]), varied_with=())  # the steps say it
        found.append(
            replace(whole, factors=WHOLE, variant=("last",), baseline=("first",), differing=differing)
        )
    return tuple(found)


def contrasts(
    runs: pd.DataFrame,
    factors: Sequence[str],
    baseline: Mapping[str, str],
    metric: str,
    averaged: Sequence[str] = (),
    rules: Rules = Rules(),  # noqa: B008  # frozen
) -> tuple[Comparison, ...]:
    """The main effects of a two-level fraction: all runs at a level against all at the baseline's, seed by seed.

    They are compared where the fraction is whole: where both sides have every level of every other factor as often.

    Args:
        runs: those of the study, as for `comparisons`.
        factors: the params that were varied.
        baseline: for each of them the level that the other is compared with.
        metric: name of the outcome.
        averaged: as for `comparisons`.
        rules: what the two sides of a comparison may differ in.

    Raises:
        InputError: no run, or no such metric.
    """
    cells = Cells(runs, (*factors, *averaged), metric, rules)
    others = {factor: [x for x in cells.levels[factor] if x != baseline[factor]] for factor in factors}
    return tuple(
        cells.contrast(factor, level, baseline[factor]) for factor in factors for level in others[factor]
    )


@dataclass(frozen=True)
class Chain:
    """Interactions of two factors that a fraction cannot tell apart, or one that it can.

    Attributes:
        pairs: the two factors of each.
        test: of the sum of them, seed by seed: how much more the one choice brings where the other is made as well.
        mean: of that sum, in the metric's unit.
        n: seeds.
    """

    pairs: tuple[tuple[str, str], ...]
    test: SignFlip
    mean: float
    n: int


def chains(
    runs: pd.DataFrame, factors: Sequence[str], baseline: Mapping[str, str], metric: str
) -> tuple[Chain, ...]:
    """The two-factor interactions of a fraction, those together that it cannot tell apart; none where it is not whole.

    Levels count −1 for the baseline's and 1 for the other. Two interactions are aliases where the products of their two
    columns are the same in every setting, or the opposite in every one, in which case their difference is seen.

    Args:
        runs: those of the study, as for `contrasts`.
        factors: the params that were varied.
        baseline: the level of each that counts −1.
        metric: name of the outcome.
    """
    cells = Cells(runs, factors, metric, Rules())
    settings = sorted(cells.settings, key=lambda levels: [natural(level) for level in levels])
    signs = [[1 if each[i] != baseline[key] else -1 for each in settings] for i, key in enumerate(factors)]
    by_column: dict[tuple[int, ...], list[tuple[str, str]]] = {}
    for (a, ours), (b, theirs) in combinations(zip(factors, signs, strict=True), 2):
        product = tuple(one * other for one, other in zip(ours, theirs, strict=True))
        opposite = tuple(-each for each in product)
        by_column.setdefault(opposite if opposite in by_column else product, []).append((a, b))
    found = []
    for column_of_signs, pairs in by_column.items():
        if sum(column_of_signs):
            return ()
        weights = {
            each: 4 * sign / len(settings) for each, sign in zip(settings, column_of_signs, strict=True)
        }
        values = cells.sums(weights)
        found.append(Chain(tuple(pairs), tests.sign_flip(values), exact.mean(values), len(values)))
    return tuple(found)
