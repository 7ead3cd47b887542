"""Which runs belong together: of a sweep those of its newest settings, each configuration and seed once."""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from ablations.comparison.variants import COSTS
from ablations.tracking.columns import NOT_LOGGED, column, param, params_in, tag, text

DERIVED = (*(param(f"network.{cost}") for cost in COSTS), param("dataset.root"), param("dataset.mirrors"))
"""Follow from the choices of components, which are compared themselves, or determine nothing."""


@dataclass(frozen=True)
class Selection:
    """The runs that one report covers, and what was left out.

    Attributes:
        runs: those that count.
        other_settings: of each run of an earlier invocation that has other settings the column of the first of them.
        repeated: how many runs were repeated by another of the same configuration and seed.
    """

    runs: pd.DataFrame
    other_settings: tuple[str, ...]
    repeated: int


def factors_of(runs: pd.DataFrame) -> tuple[str, ...]:
    """The keys that the newest invocation of a sweep varied, the seed aside.

    Runs that were found finished belong to the invocation that asked for them last.
    """
    order = runs.assign(invocation=column(runs, tag("sweep_id")).fillna(""))
    newest = order.sort_values(["invocation", "start_time", "run_id"]).iloc[-1]
    keys = [key.strip() for key in (text(newest.get(tag("factors"))) or "").split(",")]
    return tuple(dict.fromkeys(key for key in keys if key and key != "seed"))


def select(runs: pd.DataFrame, varied: Sequence[str]) -> Selection:
    """The runs of a sweep that belong together.

    The newest invocation sets the shared settings. A run of an older one counts where it has the same settings
    (more seeds, more levels). Of runs that repeat each other the newest FINISHED one counts, else the newest.

    Args:
        runs: the runs of one sweep, at least one.
        varied: the keys in which they may differ; missing values become `NOT_LOGGED`.
    """
    runs = runs.sort_values(["start_time", "run_id"], ignore_index=True)
    logged = {name: column(runs, name).fillna(NOT_LOGGED).astype(str) for name in map(param, varied)}
    runs = runs.assign(**logged)
    invocation = column(runs, tag("sweep_id")).fillna("")
    newest = invocation == invocation.max()
    setting = pd.Series("", index=runs.index)
    setting[~newest] = _disagreements(runs[~newest], runs[newest], varied)
    foreign = setting != ""
    kept = _without_repetitions(runs[~foreign], varied)
    repeated = len(runs) - int(foreign.sum()) - len(kept)
    return Selection(kept.reset_index(drop=True), tuple(setting[foreign]), repeated)


def _without_repetitions(runs: pd.DataFrame, varied: Sequence[str]) -> pd.DataFrame:
    """The last of the runs of each configuration and seed.

    Runs are of the same configuration where they have the same `config_hash`; or the same params, seed included, if
    one of them has no hash, or they were made by different code: hashes name classes, which may move. Of runs
    without a seed none repeats another.
    """
    ours, code = column(runs, tag("config_hash")), column(runs, tag("code_hash"))
    derived = set(DERIVED) - {param(key) for key in varied}
    params = runs[sorted(map(param, params_in(runs)))].astype(object)
    params.loc[ours.notna(), params.columns.isin(derived)] = None
    same = pd.util.hash_pandas_object(params.where(params.notna(), ""), index=False).astype(str)
    same = same.where(column(runs, param("seed")).notna(), runs["run_id"])

    # Last comes what counts: finished before newer.
    order = runs["status"].eq("FINISHED").sort_values(kind="stable").index
    order = order[~ours.fillna(runs["run_id"]).loc[order].duplicated(keep="last")]
    ours, code, same = ours.loc[order], code.loc[order], same.loc[order]
    alike = code.notna() & ours.notna() & (code == code.groupby(same).transform("last"))
    return runs.loc[order[~same.duplicated(keep="last") | alike]].sort_index()


def _disagreements(older: pd.DataFrame, newest: pd.DataFrame, factors: Sequence[str]) -> list[str]:
    """For each older run the column of the first setting that sets it apart from the newest invocation, else ''."""
    varied = [param(key) for key in factors]
    fixed = {*varied, *DERIVED, param("seed")}
    settings = [name for name in map(param, params_in(newest)) if name not in fixed]
    # A choice brings its own settings: optimizer=rmsprop has an optimizer.decay that no other has.
    own = tuple(f"{name}." for name in varied)
    shared = [name for name in settings if newest[name].nunique(dropna=False) == 1]
    shared = [name for name in shared if not name.startswith(own)]
    values = newest[[*varied, *settings]].astype(object).where(newest[[*varied, *settings]].notna(), None)
    twins = {tuple(row[name] for name in varied): row for row in values.to_dict("records")}
    common = values.iloc[-1].to_dict()
    digest = tag("data_sha256")
    data = set(column(newest, digest).dropna())

    found = []
    for row in older.astype(object).where(older.notna(), None).to_dict("records"):
        twin = twins.get(tuple(row[name] for name in varied))
        names, expected = (settings, twin) if twin else (shared, common)
        other = next((name for name in names if row[name] != expected[name]), "")
        if not other and row.get(digest) and data and row[digest] not in data:
            other = digest
        found.append(other)
    return found
