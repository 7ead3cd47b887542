"""What variants are called, in sentences and in figures, where a line has room for few words."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ablations.plots.ladder import START
from ablations.report.analysis import ADD_ONE_IN, ONE_AT_A_TIME, steps_of
from ablations.report.escaping import plain
from ablations.tracking.columns import param
from ablations.tracking.study import Study

WIDTH = 32
BASELINE = "baseline"


def variant_name(row: Mapping[str, Any], study: Study) -> str:
    """A variant in a sentence: by its levels, `activation=relu pool=max`, or by what leads to it.

    Args:
        row: its params.
        study: whose design says what a variant is: along a ladder a step, where choices are changed alone a change.
    """
    change = _change(row, study)
    if change is None:
        return " ".join(f"{key}={plain(row[param(key)])}" for key in study.factors)
    if steps_of(study):
        return f"{change} on top of the steps before it" if change else f"the {START}"
    return f"{change} alone" if change else f"the {BASELINE}"


def short_name(row: Mapping[str, Any], study: Study) -> str:
    """The same in a figure, under `title`: `relu, max`, `+ pool=max` or `pool=max`."""
    change = _change(row, study)
    if change is None:
        return levels(row, study.factors) or "all runs"
    if steps_of(study):
        return f"+ {change}" if change else START
    return change or BASELINE


def title(study: Study) -> str:
    """What the short names of its variants are."""
    if steps_of(study):
        return "step of the ladder"
    return "change to the baseline" if _alone(study) else ", ".join(study.factors)


def levels(row: Mapping[str, Any], factors: Sequence[str]) -> str:
    """A variant's levels; each is cut to its share of the width."""
    share = max(WIDTH // max(len(factors), 1) - 2, 5)
    texts = [plain(row[param(key)]) for key in factors]
    return ", ".join(text if len(text) <= share else text[: share - 1] + "…" for text in texts)


def _change(row: Mapping[str, Any], study: Study) -> str | None:
    """The choice that leads to a variant, '' where it is the first; None where its design has no such, or it is none
    of the design's."""
    setting = {key: str(row[param(key)]) for key in study.factors}
    if steps := steps_of(study):
        return next((change for change, at in _rungs(steps) if at == setting), None)
    changed = [f"{key}={plain(level)}" for key, level in setting.items() if level != study.baseline.get(key)]
    return "".join(changed) if _alone(study) and len(changed) <= 1 else None


def _alone(study: Study) -> bool:
    return study.design in (ONE_AT_A_TIME, ADD_ONE_IN) and len(study.factors) > 1


def _rungs(steps: Mapping[str, Sequence[str]]) -> Iterator[tuple[str, dict[str, str]]]:
    """Each step of a ladder and the setting to which it leads."""
    at = {key: of[0] for key, of in steps.items()}
    yield "", dict(at)
    for key, of in steps.items():
        for level in of[1:]:
            at[key] = level
            yield f"{key}={plain(level)}", dict(at)
