"""Which runs of other programs count, which of their values, and what a report says about that."""

import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from ablations.commands import many
from ablations.errors import InputError
from ablations.report.escaping import plain
from ablations.report.numbers import NO_SPREAD
from ablations.report.request import params_of
from ablations.tracking.columns import NOT_LOGGED, column, is_finite, metric, param, text
from ablations.tracking.study import Study

if TYPE_CHECKING:
    import pandas as pd

    from ablations.comparison.selection import Disagreement
    from ablations.comparison.units import Within
    from ablations.tracking.reader import Reader

BEST, LAST, MEAN_OF_LAST = "best", "last", re.compile(r"mean-of-last-([1-9]\d{0,5})")
BLOCK_WORDS = frozenset(["fold", "folds", "split", "dataset", "data", "task", "benchmark", "cv"])
MOST_NAMED = 6


def prepared(
    reader: "Reader", study: Study, runs: "pd.DataFrame", of_others: bool
) -> tuple[Study, "pd.DataFrame", list[str], list[str]]:
    """The study and its runs, ready to be selected from; what was left out, and what else is to be said, in words.

    Parents of nested runs go where they only hold their children's results, a number has one spelling, and the metric
    has the value that the study asks for.

    Args:
        reader: of the store.
        study: the question.
        runs: all that it may be about.
        of_others: whether no sweep of this project tied them together.

    Raises:
        InputError: a value that there is not, or a parent with a result of its own beside its children's.
    """
    from ablations.comparison.nested import without_parents
    from ablations.comparison.units import with_equal_numbers

    left_out: list[str] = []
    if of_others:
        nested = without_parents(runs, study.varied, study.metric)
        if nested.unclear:
            raise InputError(_unclear(runs, nested.unclear, study.metric))
        if nested.parents:
            left_out.append(
                f"{many(len(nested.parents), 'parent run')} that only hold what their children reached"
            )
        if nested.parts:
            left_out.append(f"{many(len(nested.parts), 'child run')} that are parts of their parents")
        runs = nested.runs
    for option, keys in (("--average-over", study.average_over), ("--blocks", (study.blocks,))):
        if lacking := [key for key in keys if key is not None and param(key) not in runs]:
            raise InputError(f"{option} {lacking[0]}: no run has such a param; there are {params_of(runs)}")
    if study.unpaired and (study.blocks or study.average_over):
        raise InputError("--unpaired: groups are compared as a whole, without --blocks and --average-over")
    if study.blocks is not None and column(runs, param("seed")).map(text).isna().all():
        runs = runs.assign(**{param("seed"): NO_SPREAD})  # a run for each variant and block
    runs, spelled = with_equal_numbers(runs, study.varied)
    remarks = [_spelled(study, spelled)] if spelled else []
    runs, said = _valued(reader, study, runs, of_others)
    return _with_meant_baseline(study, runs), runs, left_out, [*remarks, *said]


def _unclear(runs: "pd.DataFrame", parents: Sequence[str], name: str) -> str:
    named = runs.set_index("run_id").loc[list(parents)]
    first = named.iloc[0]
    return (
        f"nested runs: {plain(first['run_name']) or 'the run'} ({parents[0]}) has a {name} of its own "
        f"({first[metric(name)]:g}), and so have its child runs; say which of them count with --where, "
        f"such as --where \"tags.mlflow.parentRunId LIKE '%'\" for the children"
    )


def _spelled(study: Study, spelled: Mapping[str, Sequence[Sequence[str]]]) -> str:
    """`one number in several spellings is one: lr (0.01, 1e-2), seed (0, 0.0; 1, 1.0; …)`."""
    shown = []
    for key, groups in spelled.items():
        name = study.seed_param if key == "seed" else key
        more = "; …" if len(groups) > 2 else ""
        shown.append(f"{name} ({'; '.join(', '.join(group) for group in groups[:2])}{more})")
    return f"A number in several spellings is one: {', '.join(shown)}."


def _with_meant_baseline(study: Study, runs: "pd.DataFrame") -> Study:
    """The study with its baseline's numbers spelled as the runs spell them."""
    from ablations.comparison.units import level_of

    levels = {key: sorted(set(column(runs, param(key)).map(text).dropna())) for key in study.baseline}
    return replace(
        study, baseline={key: level_of(level, levels[key]) for key, level in study.baseline.items()}
    )


def _valued(
    reader: "Reader", study: Study, runs: "pd.DataFrame", of_others: bool
) -> tuple["pd.DataFrame", list[str]]:
    """The runs with the value of the metric that counts, and which one that is where they logged several."""
    asked, name = study.value or LAST, study.metric
    last = MEAN_OF_LAST.fullmatch(asked)
    if asked not in (BEST, LAST) and last is None:
        raise InputError(f"--value: {BEST}, {LAST} or mean-of-last-N is expected, got {plain(asked)}")
    if metric(name) not in runs or not (of_others or study.value):
        return runs, []
    logged = runs.loc[runs[metric(name)].notna(), "run_id"]
    points = reader.histories(list(logged), [name])
    if not (points.groupby("run_id").size() > 1).any():
        return runs, []
    several = f"The runs logged several values of {name}"
    fewest, uneven = _unevenly(points, runs)
    if asked == LAST:
        said = f"{several}: of each run the last value counts (--value best, --value mean-of-last-N).{uneven}"
        return runs, [said]
    if last is not None:
        count = int(last[1])
        found = (
            points.groupby("run_id")
            .tail(count)
            .groupby("run_id")["value"]
            .agg(lambda of: of.mean(skipna=False))
        )
        of_all = ", or of all where there are fewer" if fewest < count else ""
        said = f"{several}: of each run the mean of the last {count} counts{of_all}.{uneven}"
    else:
        points = points[points["value"].map(is_finite)]
        found = points.groupby("run_id")["value"].agg("min" if study.smaller else "max")
        said = f"{several}: of each run the best value counts, which flatters every variant, one with more values more."
        said += uneven
    value = runs["run_id"].map(found).astype(float)
    return runs.assign(**{metric(name): value.where(runs[metric(name)].notna(), runs[metric(name)])}), [said]


def _unevenly(points: "pd.DataFrame", runs: "pd.DataFrame") -> tuple[int, str]:
    """The smallest number of values that a finished run logged, and that others logged more, in words."""
    sizes = points.groupby("run_id").size()
    done = sizes[sizes.index.isin(runs.loc[runs["status"] == "FINISHED", "run_id"])]
    fewest, most = (int(done.min()), int(done.max())) if len(done) else (int(sizes.min()), 0)
    said = f" Some runs logged more values than others: {fewest} to {most}, so that they may have been trained longer."
    return fewest, said if fewest < most else ""


def disagreeing(found: Sequence["Disagreement"], name: str) -> Iterator[str]:
    """Runs of the same params and seed whose results differ, in words: none of them is taken."""
    for each in found[:MOST_NAMED]:
        values = ", ".join(f"{value:g} ({run_id})" for run_id, value in each.results)
        shown = textwrap.shorten(values, 200, placeholder=" …")
        same = f"{len(each.results)} runs of the same params and seed {each.seed}"
        yield f"{same}, which disagree in {name}: {shown}"
    if len(found) > MOST_NAMED:
        rest = sum(len(each.results) for each in found[MOST_NAMED:])
        yield f"{rest} more runs of the same params and seed that disagree"


def require_named(within: Sequence["Within"], study: Study) -> None:
    """Raise InputError where a param that nobody named differs within a seed of a variant."""
    if not within:
        return
    keys = [each.key for each in within[:MOST_NAMED]]
    more = f" and {len(within) - MOST_NAMED} more" if len(within) > MOST_NAMED else ""
    first = within[0]
    what = "seed" if study.seed_param == "seed" else study.seed_param
    what = "variant's runs" if study.unpaired else what
    everywhere = f"within each {what}"
    where = everywhere if first.everywhere else f"within {what} {', '.join(first.seeds[:MOST_NAMED])}"
    blocks = ", --blocks" if BLOCK_WORDS & set(re.split(r"[\W_]+", " ".join(keys).lower())) else ""
    verb, it = ("differs", "it") if len(within) == 1 else ("differ", "them")
    raise InputError(
        f"{', '.join(keys)}{more} {verb} {where}: add {it} to --factors, --average-over{blocks} or --where, or to "
        f"--ignore what only names a run ({'; '.join(map(_levels, within[:MOST_NAMED]))})"
    )


def _levels(each: "Within") -> str:
    values = ", ".join("not logged" if value == NOT_LOGGED else value for value in each.values[:MOST_NAMED])
    return f"{each.key}: {values}{', …' if len(each.values) > MOST_NAMED else ''}"
