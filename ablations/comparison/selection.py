"""Which runs belong together: of a sweep those of its newest settings, each configuration and seed once."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pandas as pd

from ablations.comparison.variants import COSTS
from ablations.tracking.columns import NOT_LOGGED, column, newest_first, param, params_in, tag, text
from ablations.tracking.study import Study

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
    factors = newest_first(runs).iloc[0].get(tag("factors"))
    keys = [key.strip() for key in (text(factors) or "").split(",")]
    return tuple(dict.fromkeys(key for key in keys if key and key != "seed"))


def belonging(runs: pd.DataFrame, study: Study | None) -> tuple[tuple[str, ...], pd.DataFrame]:
    """What tells the variants of a sweep apart, and those of its runs that a report covers."""
    varied = factors_of(runs) if study is None else study.varied
    return varied, select(runs, varied).runs


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
    found = disagreements(runs[~newest], runs[newest], varied)
    setting[~newest] = [next((name for name, *_ in each), "") for each in found]
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


def disagreements(
    older: pd.DataFrame, newest: pd.DataFrame, varied: Sequence[str]
) -> Iterator[Iterator[tuple[str, object, object]]]:
    """For each older run the settings that set it apart from the newest runs: column, its value and theirs.

    A run is compared with the newest one of its variant. Where there is none, with what all of them share, and what
    either did not log counts as the choice's own: optimizer=rmsprop has an optimizer.decay that no other has.
    """
    columns = newest.columns.union(older.columns, sort=False)
    older, newest = (frame.reindex(columns=columns).astype(object) for frame in (older, newest))
    older, newest = (frame.where(frame.notna(), None) for frame in (older, newest))
    keys = [param(key) for key in varied]
    fixed = {*keys, *DERIVED, param("seed")}
    settings = [name for name in map(param, params_in(newest)) if name not in fixed]
    own = tuple(f"{name}." for name in keys)
    shared = [name for name in settings if newest[name].nunique(dropna=False) == 1]
    shared = [name for name in shared if not name.startswith(own)]
    twins = {tuple(row.get(key) for key in keys): row for row in newest.to_dict("records")}
    common = newest.iloc[-1].to_dict()
    digest = tag("data_sha256")
    data = set(column(newest, digest).dropna())
    if any(key == "dataset" or key.startswith("dataset.") for key in varied):
        data = set()  # they are what is compared

    def of(row: dict[str, object]) -> Iterator[tuple[str, object, object]]:
        twin = twins.get(tuple(row.get(key) for key in keys))
        names, expected = (settings, twin) if twin else (shared, common)
        for name in names:
            ours = expected[name]
            if row[name] != ours and (twin or None not in (row[name], ours)):
                yield name, row[name], ours
        if row.get(digest) and data and row[digest] not in data:
            yield digest, row[digest], common[digest]

    return map(of, older.to_dict("records"))
