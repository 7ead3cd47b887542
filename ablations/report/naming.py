"""What variants are called in figures, where a line has room for few words."""

from collections.abc import Mapping, Sequence
from typing import Any

from ablations.plots.ladder import START
from ablations.report.analysis import ADD_ONE_IN, ONE_AT_A_TIME, Analysis, steps_of
from ablations.report.escaping import plain
from ablations.tracking.columns import param

WIDTH = 32
BASELINE = "baseline"


def names_of_variants(analysis: Analysis) -> tuple[list[str], str]:
    """The name of each variant by rank, and what the names are.

    Along a ladder a variant is the step that leads to it, `+ pool=max`; where choices are changed alone it is what
    differs from the baseline, `pool=max`; else it is its levels.
    """
    study, rows = analysis.study, analysis.variants.to_dict("records")
    if steps := steps_of(study):
        named, title = _steps(steps, study.factors), "step of the ladder"
    elif study.design in (ONE_AT_A_TIME, ADD_ONE_IN) and len(study.factors) > 1:
        named, title = _changes(rows, study.factors, study.baseline), "change to the baseline"
    else:
        named, title = {}, ", ".join(study.factors)
    settings = [tuple(str(row[param(key)]) for key in study.factors) for row in rows]
    own = (levels(row, study.factors) or "all runs" for row in rows)
    return [named.get(setting, name) for setting, name in zip(settings, own, strict=True)], title


def levels(row: Mapping[str, Any], factors: Sequence[str]) -> str:
    """A variant's levels; each is cut to its share of the width."""
    share = max(WIDTH // max(len(factors), 1) - 2, 5)
    texts = [plain(row[param(key)]) for key in factors]
    return ", ".join(text if len(text) <= share else text[: share - 1] + "…" for text in texts)


def _steps(steps: Mapping[str, Sequence[str]], factors: Sequence[str]) -> dict[tuple[str, ...], str]:
    """By setting the step that leads to it."""
    at = {key: steps[key][0] for key in factors}
    named = {tuple(at.values()): START}
    for key, of in steps.items():
        for level in of[1:]:
            at[key] = level
            named[tuple(at.values())] = f"+ {key}={plain(level)}"
    return named


def _changes(
    rows: Sequence[Mapping[str, Any]], factors: Sequence[str], baseline: Mapping[str, str]
) -> dict[tuple[str, ...], str]:
    """By setting what it changes of the baseline, where that is one choice or none."""
    named = {}
    for row in rows:
        setting = {key: str(row[param(key)]) for key in factors}
        changed = [f"{key}={plain(level)}" for key, level in setting.items() if level != baseline.get(key)]
        if len(changed) <= 1:
            named[tuple(setting.values())] = changed[0] if changed else BASELINE
    return named
