"""What a report says of a study's design: where it starts, what stands on what, what was left out or cannot be told."""

import math
from collections.abc import Iterator
from itertools import product

import pandas as pd

from ablations.comparison.designs import WHOLE, Chain, chains
from ablations.report.analysis import ADD_ONE_IN, FRACTION, Analysis, steps_of
from ablations.report.escaping import BETWEEN, Markdown, md, plain, table
from ablations.report.numbers import Form, forms
from ablations.tracking.columns import NOT_LOGGED, natural, param

MOST_NAMED = 6

ADDED = (
    "Add one in: the runs start from *{}*, the opposite of the full system, and add one of its choices at a time. A "
    "difference is what a choice brings alone, on top of none of the others."
)
STEPS = (
    "A ladder: each step keeps all changes before it and is compared with the step just before; *{}* compares the last "
    "with the first. In another order the steps would have other parts of the whole."
)
PART = (
    "A fraction: {} of the {} combinations of two levels each were run. A main effect compares all runs at one level "
    "with all at the other. It is mixed up with no other main effect and with no interaction of two factors, only with "
    "interactions of three or more, which are taken to be small."
)
ALIASES = (
    "Interactions of two factors in one line cannot be told apart: what is seen is what they come to together. {}They "
    "are estimates over {} seeds, with intervals that are not corrected, and no verdicts."
)
ALONE = "One that stands alone is mixed up with interactions of three factors only. "
CANNOT = "the interaction of {} cannot be told from that of {}"
LEFT_OUT = (
    "Only combinations with `{}` were run: {} of the {} that these levels make. Left out: {}. A level is compared with "
    "the baseline's where both were run."
)


def design(analysis: Analysis) -> Iterator[Markdown]:
    """Paragraphs under the verdicts."""
    study = analysis.study
    if study.design == ADD_ONE_IN:
        yield md(ADDED, " ".join(f"{key}={level}" for key, level in study.baseline.items()))
    if steps_of(study):
        yield md(STEPS, *WHOLE)
    if study.where is not None:
        where = Markdown(plain(study.where).replace("`", "'"))  # in backquotes all but these is text
        every, run = _combinations(analysis)
        yield md(LEFT_OUT, where, run, every, _left_out(analysis))
    if study.design == FRACTION:
        yield from _fraction(analysis)


def _known(analysis: Analysis) -> pd.DataFrame:
    """The levels of each variant that logged all of them."""
    levels = analysis.variants[[param(key) for key in analysis.study.factors]]
    return levels[(levels != NOT_LOGGED).all(axis=1)]


def _combinations(analysis: Analysis) -> tuple[int, int]:
    """How many combinations the factors' levels make, and how many of them were run."""
    known = _known(analysis)
    return math.prod(known.nunique()), len(known)


def _left_out(analysis: Analysis) -> str:
    """The first of the combinations that were not run, the others counted."""
    known = _known(analysis)
    run = set(known.itertuples(index=False, name=None))
    every = product(*(sorted(known[name].unique(), key=natural) for name in known))
    lacking = [each for each in every if each not in run]
    named = [
        " ".join(f"{key}={level}" for key, level in zip(analysis.study.factors, each, strict=True))
        for each in lacking[:MOST_NAMED]
    ]
    more = [f"{len(lacking) - MOST_NAMED} more"] if len(lacking) > MOST_NAMED else []
    return "; ".join([*named, *more]) or "none of them"


def _fraction(analysis: Analysis) -> Iterator[Markdown]:
    study = analysis.study
    every, run = _combinations(analysis)
    yield md(PART, run, every)
    found = chains(analysis.runs, study.factors, study.baseline, study.metric)
    if not found or not found[0].n:
        return
    yield md("### Which interactions cannot be told apart")
    form = forms(analysis)[study.metric]
    rows = [_row(each, form) for each in sorted(found, key=lambda each: -abs(each.mean))]
    yield table(("interaction", "together", "95 % interval"), rows, numeric=2)
    alone = md(ALONE) if any(len(each.pairs) == 1 for each in found) else md("")
    named = md("; ").join(_named(each) for each in found if len(each.pairs) > 1)
    said = md(ALIASES, alone, found[0].n)
    yield md("{} By name: {}.", said, named) if named else said


def _row(chain: Chain, form: Form) -> tuple[str, str, str]:
    names = " = ".join(BETWEEN.join(pair) for pair in chain.pairs)
    return names, form.difference(chain.mean), form.interval(chain.test.low, chain.test.high)


def _named(chain: Chain) -> Markdown:
    first, *others = (" and ".join(pair) for pair in chain.pairs)
    return md(CANNOT, first, ", nor from that of ".join(others))
