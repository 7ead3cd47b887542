"""Where a report's runs come from when they are in no store: a data frame or a CSV file of anybody's results."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ablations.errors import InputError, printable
from ablations.report.request import Request
from ablations.tracking.columns import numbers, param, params_in

if TYPE_CHECKING:
    import pandas as pd

    from ablations.tracking.results import Results


@dataclass(frozen=True)
class Shape:
    """How a table of results is laid out, where it has more than a row per run and a column per setting.

    Attributes:
        wide: `levels` where its columns are the levels of the one factor that has no column of its own, `seeds` where
            they are seeds.
        measured: columns besides the metric that were measured, and are no settings.
        step: the column that counts epochs, where a run has several rows.
    """

    wide: str | None = None
    measured: tuple[str, ...] = ()
    step: str | None = None


def in_csv(path: Path, name: str, request: Request, shape: Shape) -> "tuple[Results, Request]":
    """A CSV file as a source of runs, and the request for it. Raises InputError as `in_frame` does, too."""
    from ablations.tracking.results import read_csv

    return in_frame(read_csv(path), name, request, shape)


def in_frame(frame: "pd.DataFrame", name: str, request: Request, shape: Shape) -> "tuple[Results, Request]":
    """A table as a source of runs, and the request for it.

    Raises:
        InputError: no factors or metric were named, or a table that does not fit them.
    """
    from ablations.tracking.results import Layout, results

    if not request.factors or request.metric is None:
        raise InputError(
            "a table of results: say which columns are compared (--factors) and what was measured (--metric)"
        )
    others: Sequence[str | None] = (*(request.nuisance or ()), *(request.average_over or ()), request.blocks)
    settings = [*request.factors, *(name for name in others if name is not None)]
    tuned = [request.tuned_on] if request.nuisance and request.tuned_on else []
    measured = [request.metric, *tuned, *shape.measured]
    seed = request.seed_param or "seed"
    layout = Layout(
        tuple(dict.fromkeys(settings)), tuple(dict.fromkeys(measured)), seed, shape.wide, shape.step
    )
    source = results(frame, name, layout)
    _require_settings(source.runs(), {*settings, seed}, request.ignore or ())
    return source, replace(request, experiment=name)


def _require_settings(runs: "pd.DataFrame", named: Collection[str], ignore: Sequence[str]) -> None:
    """Raise InputError for a column that nobody named and that looks measured: as a setting it would be a confound."""
    from ablations.comparison.confounds import only_names

    for key in params_in(runs):
        values = numbers(runs, param(key)).dropna()
        if key in named or only_names(key, (), ignore) or (values % 1 == 0).all():
            continue
        if 2 * values.nunique() > len(runs):
            raise InputError(
                f"{printable(key)} has another number in nearly each run: say whether it was measured (--measured), is "
                "compared (--factors), tuned (--nuisance), or does not matter (--ignore)"
            )
