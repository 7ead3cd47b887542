"""Prepared views of a sweep's runs in the MLflow UI: which runs, columns, order, groups and charts.

MLflow's page keeps what its table and charts show as one JSON object. Where an experiment has that object in a tag
`mlflow.sharedViewState.<key>`, an address with `viewStateShareKey=<key>` opens it. MLflow documents none of this
(read from its page's source, tried with 3.17), so everything here works without it, too: an address that shares no
view filters and sorts by itself.
"""

import base64
import hashlib
import json
import time
import urllib.parse
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ablations.errors import InputError
from ablations.tracking.columns import column, metric, newest_first, param, tag
from ablations.tracking.direction import smaller_is_better
from ablations.tracking.reader import Reader
from ablations.tracking.reports import report_address, report_run
from ablations.tracking.store import Store
from ablations.tracking.study import Study, is_aside, tag_of

if TYPE_CHECKING:
    import pandas as pd

ERROR = "test/error_pct"
COLUMNS = (ERROR, "val/accuracy", "time/epoch_s")
CURVES = ("val/accuracy", "train/loss")
RUN_NAME = "attributes.`Run Name`"
SWEEP = tag("sweep")

Belonging = Callable[["pd.DataFrame", Study | None], tuple[tuple[str, ...], "pd.DataFrame"]]
"""From a sweep's runs and its study what varies, and those that belong together: `comparison.selection.belonging`."""


@dataclass(frozen=True)
class View:
    """One page on a sweep's runs.

    Attributes:
        title: what it shows, in a word or two.
        experiment_id: whose runs.
        name: of the sweep.
        state: what MLflow's page remembers about its table and charts.
        charts: whether it opens with the charts in place of the table.
    """

    title: str
    experiment_id: str
    name: str
    state: Mapping[str, Any]
    charts: bool = False

    @property
    def key(self) -> str:
        """The name under which the experiment keeps the state: the same for variants in a table and in charts."""
        grouped = "variants" if self.state["groupBy"] else "runs"
        return f"{grouped}-{hashlib.sha256(self.name.encode()).hexdigest()[:16]}"

    def tag(self) -> tuple[str, str]:
        """Return the experiment's tag, key and value, from which MLflow's page restores this view."""
        packed = base64.b64encode(zlib.compress(json.dumps(self.state).encode())).decode()
        now = time.time_ns() // 1_000_000
        value = {"name": self.name, "createdAt": now, "updatedAt": now, "state": f"deflate;{packed}"}
        return f"mlflow.sharedViewState.{self.key}", json.dumps(value)

    def address(self, server: str, shared: bool) -> str:
        """Return the page with this view; where not `shared`, filtered and sorted, with default columns.

        MLflow ignores a shared view when the address itself has a filter.
        """
        query = {"workflowType": "machine_learning"}
        if shared:
            query["viewStateShareKey"] = self.key
        else:
            query |= {key: self.state[key] for key in ("searchFilter", "orderByKey")}
            query["orderByAsc"] = json.dumps(self.state["orderByAsc"])
        if self.charts:
            query["compareRunsMode"] = "CHART"
        return f"{server}/#/experiments/{self.experiment_id}/runs?{urllib.parse.urlencode(query)}"


@dataclass(frozen=True)
class SweepViews:
    """A sweep's runs and what to look at in them.

    Attributes:
        name: of the sweep.
        experiment_id: that holds it.
        runs: how many belong together.
        params: what tells variants apart.
        variants: their levels, in the order of `params`.
        seed: the param that tells a variant's runs apart, None where it does not vary.
        metrics: the columns; the first one sorts.
        curves: the metrics drawn by epoch.
        left_out: the ids of the runs of its name that do not belong to them: of other settings, or repeated since.
        report: where the UI shows its report, behind the server's address and `/#`; None where the store has none.
    """

    name: str
    experiment_id: str
    runs: int
    params: tuple[str, ...]
    variants: tuple[tuple[str, ...], ...]
    seed: str | None
    metrics: tuple[str, ...]
    curves: tuple[str, ...]
    left_out: tuple[str, ...] = ()
    report: str | None = None

    @property
    def views(self) -> tuple[View, View, View]:
        """Its runs as a table, their means by variant as a table, and as curves."""
        runs = self._state((*self.params, self.seed) if self.seed else self.params)
        variants = self._state(self.params) | self._groups()
        return (
            View("runs", self.experiment_id, self.name, runs),
            View("variants", self.experiment_id, self.name, variants),
            View("charts", self.experiment_id, self.name, variants, charts=True),
        )

    def share(self, store: Store) -> bool:
        """Keep them in their experiment. False where that is refused: the runs can be looked at without them."""
        try:
            for view in self.views[:2]:  # the charts share the state of the variants
                store.tag_experiment(view.experiment_id, *view.tag())
        except InputError:
            return False
        return True

    def _state(self, params: tuple[str, ...]) -> dict[str, Any]:
        metrics = [metric(f"`{name}`") for name in self.metrics]
        columns = [*(param(f"`{name}`") for name in params), *metrics]
        quote = "'" if '"' in self.name else '"'
        wanted = f"{SWEEP} = {quote}{self.name}{quote}"
        if self.left_out:
            ids = ", ".join(f"'{run_id}'" for run_id in self.left_out)
            wanted += f" AND attributes.run_id NOT IN ({ids})"
        return {
            "searchFilter": wanted,
            "orderByKey": metrics[0],
            "orderByAsc": bool(smaller_is_better(self.metrics[0])),
            "selectedColumns": columns,
            "columnOrder": [RUN_NAME, *columns],
            "columnWidths": {RUN_NAME: 320},
            "runsHiddenMode": "SHOW_ALL",
            "groupBy": None,
            **self._charts(),
        }

    def _groups(self) -> dict[str, Any]:
        """A group for each variant, closed; one for all runs where nothing but the seed varies."""
        keys = [("param", name) for name in self.params] or [("tag", "sweep")]
        levels = self.variants if self.params else [(self.name,)]
        groups = (
            ",".join(f"{mode}.{key}.{level}" for (mode, key), level in zip(keys, variant, strict=True))
            for variant in levels
        )
        return {
            "groupBy": {
                "aggregateFunction": "average",
                "groupByKeys": [{"mode": mode, "groupByData": key} for mode, key in keys],
            },
            "groupsExpanded": dict.fromkeys(groups, False),
        }

    def _charts(self) -> dict[str, Any]:
        """The curves in a section of their own, above those that MLflow adds for the other metrics."""
        section = {"uuid": "curves", "name": "Learning curves", "display": True, "columns": len(self.curves)}
        charts = [
            {
                "uuid": f"curve-{name}",
                "type": "LINE",
                "metricSectionId": section["uuid"],
                "metricKey": name,
                "selectedMetricKeys": [name],
                "xAxisKey": "step",
                "lineSmoothness": 0,
                "deleted": False,
                "isGenerated": False,
            }
            for name in self.curves
        ]
        return {
            "compareRunSections": [section],
            "compareRunCharts": charts,
            "isAccordionReordered": True,  # keeps this section first
        }


def sweep_views(reader: Reader, name: str | None, belonging: Belonging) -> SweepViews | None:
    """Return what to look at in a sweep; None where there is no sweep at all.

    Args:
        reader: of the store.
        name: of a sweep, or of a study, which stands for its newest sweep; None: the sweep that was asked for last.
        belonging: which runs belong together.

    Raises:
        InputError: for an unknown name, with the latest sweeps, and for a store that cannot be read.
    """
    runs = reader.runs()
    runs = runs[column(runs, SWEEP).notna()]
    if name is None:
        runs = runs[~column(runs, SWEEP).map(is_aside).astype(bool)]
    if runs.empty and name is None:
        return None
    name, experiment_id = newest_first(_named(runs, name)).iloc[0][[SWEEP, "experiment_id"]]
    everything = runs[(runs[SWEEP] == name) & (runs["experiment_id"] == experiment_id)]
    study = _study(reader, experiment_id, name)
    seed = study.seed_param if study else "seed"
    factors, chosen = belonging(everything, study)
    params = [key for key in factors if key != seed and param(key) in chosen]
    variants = chosen[[param(key) for key in params]].drop_duplicates()
    wanted = (*COLUMNS[:1], *([study.metric] if study else []), *COLUMNS[1:])
    metrics = [name for name in dict.fromkeys(wanted) if metric(name) in chosen]
    report = report_run(reader, everything["experiment"].iloc[-1], name)
    return SweepViews(
        name=name,
        experiment_id=experiment_id,
        runs=len(chosen),
        left_out=tuple(sorted(set(everything["run_id"]) - set(chosen["run_id"]))),
        params=tuple(params),
        variants=tuple(variants.fillna("null").itertuples(index=False, name=None)),
        seed=seed if column(chosen, param(seed)).nunique() > 1 else None,
        metrics=tuple(metrics or COLUMNS),
        curves=CURVES,
        report=None if report is None else report_address(experiment_id, report),
    )


def run_page(reader: Reader, beginning: str) -> str | None:
    """Where the UI shows the run whose id begins so; None where that is no run, more than one, or a sweep's name."""
    runs = reader.runs()
    found = runs[runs["run_id"].str.startswith(beginning)]
    if len(found) != 1 or (column(runs, SWEEP) == beginning).any():
        return None
    return "/#/experiments/{experiment_id}/runs/{run_id}".format(**found.iloc[0])


def share_views(store: Store, name: str, belonging: Belonging) -> bool:
    """Leave the views of a sweep that has ended. False where the store refuses them, which is no reason for the sweep
    to fail."""
    try:
        views = sweep_views(Reader(store), name, belonging)
    except InputError:
        return False
    return views is not None and views.share(store)


def _named(runs: "pd.DataFrame", name: str | None) -> "pd.DataFrame":
    """The runs of a sweep, or of a study, of this name."""
    if name is None:
        return runs
    for key in (SWEEP, tag("study")):
        found = runs[column(runs, key) == name]
        if len(found):
            return found
    latest = column(runs, SWEEP).drop_duplicates(keep="last").tolist()[:-21:-1]
    raise InputError(f"no sweep {name!r}; the latest: {', '.join(latest) or 'none yet'}")


def _study(reader: Reader, experiment_id: str, name: str) -> Study | None:
    """The study that the sweep left in its experiment, None where there is none that can be read."""
    text = reader.experiment_tags(experiment_id).get(tag_of(name))
    try:
        return Study.from_json(text) if text else None
    except InputError:
        return None
