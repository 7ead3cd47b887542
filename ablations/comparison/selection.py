"""Which runs belong together: of a sweep those of its newest settings, each configuration and seed once."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pandas as pd

from ablations.comparison.confounds import only_names
from ablations.comparison.variants import COSTS
from ablations.tracking.columns import NOT_LOGGED, column, newest_first, numbers, param, params_in, tag, text
from ablations.tracking.columns import metric as metric_column
from ablations.tracking.spelling import respelled
from ablations.tracking.study import Study

DERIVED = (*(param(f"network.{cost}") for cost in COSTS), param("dataset.root"), param("dataset.mirrors"))
"""Follow from the choices of components, which are compared themselves, or determine nothing."""


AGREE = 1e-9
"""Relative difference below which two results are one."""


@dataclass(frozen=True)
class Disagreement:
    """Runs of the same params and seed that have other results, none of which counts.

    Attributes:
        seed: theirs.
        results: the id and the value of each.
    """

    seed: str
    results: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Selection:
    """The runs that one report covers, and what was left out.

    Attributes:
        runs: those that count.
        other_settings: of each run of an earlier invocation that has other settings the column of the first of them.
        repeated: how many runs were repeated by another of the same configuration and seed.
        disagreeing: runs of the same params and seed whose results differ.
    """

    runs: pd.DataFrame
    other_settings: tuple[str, ...]
    repeated: int
    disagreeing: tuple[Disagreement, ...] = ()


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


def select(
    runs: pd.DataFrame, varied: Sequence[str], metric: str | None = None, ignore: Sequence[str] = ()
) -> Selection:
    """The runs of a sweep that belong together.

    The newest invocation sets the shared settings. A run of an older one counts where it has the same settings
    (more seeds, more levels). Of runs that repeat each other the newest FINISHED one counts, else the newest. Runs that
    other programs made repeat each other where they have the same result, too; where they disagree none counts.

    Args:
        runs: the runs of one sweep, at least one.
        varied: the keys in which they may differ; missing values become `NOT_LOGGED`.
        metric: the outcome, whose values may disagree.
        ignore: params that only name a run, besides those known.
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
    ours = runs[~foreign]
    same = _same(ours, varied, ignore)
    disagreeing = () if metric is None else tuple(_disagreeing(ours, same, metric))
    agreeing = ours[~ours["run_id"].isin([run_id for each in disagreeing for run_id, _ in each.results])]
    kept = _without_repetitions(agreeing, same[agreeing.index])
    repeated = len(agreeing) - len(kept)
    return Selection(kept.reset_index(drop=True), tuple(setting[foreign]), repeated, disagreeing)


def _same(runs: pd.DataFrame, varied: Sequence[str], ignore: Sequence[str]) -> pd.Series:
    """For each run a text that runs of the same params and seed have in common.

    Params that only name a run are no settings; without a seed no run is the same as another.
    """
    ours = column(runs, tag("config_hash"))
    derived = set(DERIVED) - {param(key) for key in varied}
    settings = [key for key in params_in(runs) if key in (*varied, "seed") or not only_names(key, (), ignore)]
    params = runs[sorted(map(param, settings))].astype(object)
    params.loc[ours.notna(), params.columns.isin(derived)] = None
    for name in params:
        if spelled := respelled(params[name].map(text).dropna()):
            params[name] = params[name].replace(spelled)
    same = pd.util.hash_pandas_object(params.where(params.notna(), ""), index=False).astype(str)
    return same.where(column(runs, param("seed")).notna(), runs["run_id"])


def _disagreeing(runs: pd.DataFrame, same: pd.Series, metric: str) -> Iterator[Disagreement]:
    """The finished runs that no sweep of ours made and that have another result than their twins."""
    value = numbers(runs, metric_column(metric))
    done = runs["status"].eq("FINISHED") & value.notna() & column(runs, tag("config_hash")).isna()
    for _, values in value[done].groupby(same[done], sort=False):
        if values.max() - values.min() > AGREE * values.abs().max():
            results = zip(runs["run_id"][values.index], values, strict=True)
            yield Disagreement(str(runs[param("seed")][values.index[0]]), tuple(results))


def _without_repetitions(runs: pd.DataFrame, same: pd.Series) -> pd.DataFrame:
    """The last of the runs of each configuration and seed.

    Runs are of the same configuration where they have the same `config_hash`; or the same params, seed included, if
    one of them has no hash, or they were made by different code: hashes name classes, which may move.
    """
    ours, code = column(runs, tag("config_hash")), column(runs, tag("code_hash"))
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
    if older.empty:
        return iter(())
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
