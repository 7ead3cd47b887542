"""What a report is to be about: the study that a sweep left in the store, and what was requested besides."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import PurePath
from typing import TYPE_CHECKING

from ablations.errors import InputError
from ablations.report.escaping import plain
from ablations.tracking.columns import (
    column,
    metric,
    metrics_in,
    newest_first,
    param,
    params_in,
    tag,
    text,
)
from ablations.tracking.study import Study, is_aside, looks_in, looks_of, tag_of, target_is_small

if TYPE_CHECKING:
    import pandas as pd

    from ablations.tracking.reader import Reader

UNSAID = {"design": "grid", "tuned_on": "val/accuracy"}
"""Of runs without a study, those of other programs, say; conf/ need not be there for them."""

OF_THE_STUDY = "of the study that was kept with the runs, {}"


OTHER_SEED = "the param seed"
"""Of runs that another param pairs."""


@dataclass(frozen=True)
class Request:
    """What a report is to be about, where the study that a sweep left in the store does not say it all.

    Attributes:
        experiment: all runs of this experiment or these, instead of those of a sweep; without a name and with factors
            that the last sweep does not have, those of every experiment that has them.
        factors: the params that are compared.
        metric: the outcome.
        baseline: by factor the level that the others are compared with.
        margin: largest difference that does not matter, in the metric's unit.
        smaller_is_better: of the metric; None: told from its name.
        seed_param: the param that pairs runs.
        nuisance: params of which each variant gets its own best value.
        tuned_on: the metric that chooses it.
        looks: at how many seeds somebody has looked, where the store does not know it.
        tuned_smaller_is_better: of that metric; None: told from its name.
        ignore: params and tags that only name a run: they may differ between the two sides of a comparison.
        average_over: params that are not compared: a seed's value is the mean over theirs.
        blocks: the param with the data sets or folds within which variants are compared.
        unpaired: whether runs without seeds are compared group by group.
        value: of a metric logged several times: `best`, `last`, `mean-of-last-N`.
        where: only runs that this filter finds, in MLflow's grammar.
    """

    experiment: str | tuple[str, ...] | None = None
    factors: tuple[str, ...] | None = None
    metric: str | None = None
    baseline: Mapping[str, str] | None = None
    margin: float | None = None
    smaller_is_better: bool | None = None
    seed_param: str | None = None
    nuisance: tuple[str, ...] | None = None
    tuned_on: str | None = None
    looks: tuple[int, ...] | None = None
    tuned_smaller_is_better: bool | None = None
    ignore: tuple[str, ...] | None = None
    average_over: tuple[str, ...] | None = None
    blocks: str | None = None
    unpaired: bool | None = None
    value: str | None = None
    where: str | None = None

    @property
    def of_others(self) -> bool:
        """Whether it is about runs that no sweep of this project tied together."""
        return self.experiment is not None and self.factors is not None

    @property
    def filter(self) -> dict[str, str]:
        """What the store's reader is asked for besides."""
        return {} if self.where is None else {"where": self.where}

    @property
    def changes(self) -> dict[str, object]:
        """What it says that a study says, too."""
        apart = ("experiment", "where", "looks")
        wanted = {name: value for name, value in vars(self).items() if name not in apart}
        return {name: value for name, value in wanted.items() if value is not None}


def everywhere(reader: "Reader", name: str | None, request: Request) -> tuple[str | None, Request]:
    """The name and the request, with the experiments that have the factors where nobody said which runs are meant."""
    parts = request.experiment if isinstance(request.experiment, tuple) else ()
    if len(parts) > 1 and ",".join(parts) in reader.experiments():  # one whose name has commas
        return name, replace(request, experiment=",".join(parts))
    if name is not None or request.experiment is not None or request.factors is None:
        return name, request
    runs = reader.runs(**request.filter)
    needed = [*map(param, request.factors), *([metric(request.metric)] if request.metric else [])]
    have = runs.reindex(columns=needed).notna().all(axis=1)
    sweeps = column(runs, tag("sweep")).fillna("")
    last = sweeps[sweeps != ""].tail(1).isin(sweeps[have])
    if last.any() or not have.any():
        return name, request
    return "-".join(request.factors), replace(
        request, experiment=tuple(sorted(set(runs["experiment"][have])))
    )


def asked(
    reader: "Reader", name: str | None, request: Request
) -> tuple[Study, "pd.DataFrame", str | None, list[str]]:
    """The study and all its runs, the param that pairs them as that of the key `seed`, the metric that the study has
    by itself, if any, and what of the study cannot be read. Raises InputError."""
    own, unread = None, []
    if request.of_others:
        named = request.experiment
        experiments = ",".join(named if isinstance(named, tuple) else (named,))
        runs = _not_aside(reader.runs(named, **request.filter))
        if runs.empty:
            found = "no runs" if request.where is None else f"no runs where {request.where}"
            raise InputError(f"the experiment {experiments!r} has {found}")
        outcome = request.metric or _only_metric(runs)
        study = Study(name or experiments, (), {}, outcome, margin=0.0, brings={}, **UNSAID)
        study = replace(study, **request.changes)
    else:
        found, runs = _sweep(reader, name, request.experiment, request.filter)
        kept, unread = _kept(reader, found, runs)
        kept, unfit = _fitting(replace(kept, name=found), runs)
        changes = request.changes
        if kept.ignore:
            changes["ignore"] = (*kept.ignore, *(request.ignore or ()))
        if "metric" in changes and changes["metric"] != kept.metric:
            changes.setdefault("smaller_is_better", None)
        own, study, unread = kept.metric, replace(kept, **changes), [*unread, *unfit]
    study, runs = _with_short_roots(study, runs)
    unknown = [key for key in request.baseline or {} if key not in study.factors]
    if unknown:
        factors = ", ".join(study.factors) or "none"
        raise InputError(f"baseline: {', '.join(unknown)} is no factor; the factors are {factors}")
    _require_one_role(study)
    if study.seed_param == "seed":
        return study, runs, own, unread
    if not study.unpaired:
        require_seed(runs, study.seed_param)
    named = {param("seed"): param(OTHER_SEED), param(study.seed_param): param("seed")}
    return _with_other_seed(study), runs.rename(columns=named), own, unread


def _require_one_role(study: Study) -> None:
    """Raises InputError where one key is to be compared, averaged over, or what pairs or parts runs, at once."""
    roles = {
        "--factors": study.factors,
        "--nuisance": study.nuisance,
        "--average-over": study.average_over,
        "--blocks": () if study.blocks is None else (study.blocks,),
        "--seed-param": () if study.unpaired else (study.seed_param,),
    }
    for (one, keys), (other, others) in combinations(roles.items(), 2):
        # A block of its own for each seed has a run for each variant.
        if (one, other) != ("--blocks", "--seed-param") and (both := [key for key in keys if key in others]):
            raise InputError(f"{both[0]} is named by {one} and by {other}: one of them is expected")


def _with_other_seed(study: Study) -> Study:
    """The study with the param `seed` under another name, where it is not what pairs runs."""

    def renamed(keys: Sequence[str]) -> tuple[str, ...]:
        return tuple(OTHER_SEED if key == "seed" else key for key in keys)

    lists = {
        name: renamed(getattr(study, name)) for name in ("factors", "nuisance", "average_over", "ignore")
    }
    baseline = {renamed([key])[0]: level for key, level in study.baseline.items()}
    return replace(
        study, **lists, baseline=baseline, blocks=OTHER_SEED if study.blocks == "seed" else study.blocks
    )


def _with_short_roots(study: Study, runs: "pd.DataFrame") -> tuple[Study, "pd.DataFrame"]:
    """Folders that are compared, by the last parts of their paths where these are different."""
    root = "dataset.root"
    if root not in study.varied or param(root) not in runs:
        return study, runs
    names = {path: PurePath(path).name for path in runs[param(root)].dropna()}
    if len(set(names.values())) < len(names) or not all(names.values()):
        return study, runs
    baseline = {
        key: names.get(level, level) if key == root else level for key, level in study.baseline.items()
    }
    return replace(study, baseline=baseline), runs.assign(**{param(root): runs[param(root)].replace(names)})


def looks_at(reader: "Reader", runs: "pd.DataFrame") -> list[str]:
    """The ids of the invocations whose report showed some of these runs: those of their sweeps, and those of other
    sweeps whose results they are."""
    from ablations.comparison.looks import first_invocations

    sweeps, first = set(column(runs, tag("sweep"))), set(first_invocations(runs))
    looked = [looks_in(reader.experiment_tags(id)) for id in runs["experiment_id"].unique()]
    return looks_of(looked, sweeps, first)


def require_seed(runs: "pd.DataFrame", seed: str) -> None:
    """Raises InputError where no run logged the param that pairs runs."""
    if param(seed) not in runs:
        there = params_of(runs)
        raise InputError(
            f"seeds: no run has the param {seed}, so that nothing can be paired; there are {there}; name the one that "
            "holds the seed (--seed-param), or compare groups (--unpaired)"
        )


def params_of(runs: "pd.DataFrame") -> str:
    """The params that runs logged, for a message."""
    logged = (key for key in params_in(runs) if runs[param(key)].map(text).notna().any())
    return ", ".join(sorted(logged)) or "none"


def _only_metric(runs: "pd.DataFrame") -> str:
    there = sorted(metrics_in(runs))
    if len(there) == 1:
        return there[0]
    named = ", ".join(there) or "none"
    raise InputError(f"metric: say which one is compared (--metric); the runs have {named}")


def _sweep(
    reader: "Reader", name: str | None, experiment: str | tuple[str, ...] | None, where: Mapping[str, str]
) -> tuple[str, "pd.DataFrame"]:
    """The sweep's name and all its runs."""
    if name is not None:
        runs = reader.runs(experiment, tags={"sweep": name}, **where)
        if not runs.empty:
            return name, _of_one_experiment(runs)
    runs = _not_aside(reader.runs(experiment, **where))
    sweeps = column(runs, tag("sweep")).dropna()
    sweeps = sweeps[sweeps != ""]
    if sweeps.empty:
        if len(runs):
            raise InputError(
                "the store has runs, but no sweep: say what to compare with --experiment and --factors, or try "
                "`python run.py -m activation=relu,tanh`"
            )
        raise InputError("the store has no runs yet: try `python run.py -m activation=relu,tanh`")
    if name is not None:
        existing = ", ".join(plain(each) for each in sorted(set(sweeps)))
        raise InputError(f"no sweep is named {name!r}; there are: {existing}")
    newest = newest_first(runs.loc[sweeps.index]).iloc[0]
    return newest[tag("sweep")], _of_one_experiment(runs[column(runs, tag("sweep")) == newest[tag("sweep")]])


def _not_aside(runs: "pd.DataFrame") -> "pd.DataFrame":
    """Runs without those of trials."""
    return runs[~column(runs, tag("sweep")).map(is_aside).astype(bool)].reset_index(drop=True)


def _of_one_experiment(runs: "pd.DataFrame") -> "pd.DataFrame":
    """A sweep's runs without those of a sweep of the same name in another experiment."""
    return runs[runs["experiment_id"] == newest_first(runs).iloc[0]["experiment_id"]]


def _kept(reader: "Reader", name: str, runs: "pd.DataFrame") -> tuple[Study, list[str]]:
    """The study that the sweep left in its experiment, and what of it cannot be read; for that, and for runs that
    were copied without it, what they say."""
    from ablations.comparison.selection import factors_of

    kept = reader.experiment_tags(runs["experiment_id"].iloc[0]).get(tag_of(name))
    told = Study(name, factors_of(runs), {}, metric="test/error_pct", margin=0.1, **UNSAID)
    if kept is None:
        return told, []
    study, unread = told.with_readable(kept)
    return study, [OF_THE_STUDY.format(each) for each in unread]


def _fitting(study: Study, runs: "pd.DataFrame") -> tuple[Study, list[str]]:
    """The study without what none of its runs can be: a param or a metric that they lack, a level that none has; and
    without metrics of which nothing says what is better."""
    logged = {key: set(runs[param(key)].map(text).dropna()) for key in params_in(runs)}
    unfit = {}
    if study.seed_param != "seed" and (study.seed_param not in logged or study.seed_param in study.varied):
        unfit["seed_param"], study = study.seed_param, replace(study, seed_param="seed")
    if study.blocks is not None and not logged.get(study.blocks):
        unfit["blocks"], study = study.blocks, replace(study, blocks=None)
    factors = tuple(key for key in study.factors if logged.get(key) and key != study.seed_param)
    if factors != study.factors:
        unfit["factors"] = ", ".join(key for key in study.factors if key not in factors)
        study = replace(study, factors=factors)
    if study.nuisance and metric(study.tuned_on) not in runs:
        unfit["tuned_on"], study = study.tuned_on, replace(study, nuisance=())
    levels = {
        key: level for key, level in study.baseline.items() if key not in factors or str(level) in logged[key]
    }
    if levels != study.baseline:
        lost = {key: level for key, level in study.baseline.items() if key not in levels}
        unfit["baseline"] = ", ".join(f"{key}={level}" for key, level in lost.items())
        study = replace(study, baseline=levels)
    said = [f"{name}: no run has {what}" for name, what in unfit.items()]
    study, undirected = _directed(study)
    return study, [OF_THE_STUDY.format(each) for each in (*said, *undirected)]


def _directed(study: Study) -> tuple[Study, list[str]]:
    """The study without the target and the claims in whose metric nothing says what is better, which no option can."""
    said = []

    def is_told(ask: Callable[[], bool]) -> bool:
        try:
            ask()
        except InputError as error:
            said.append(str(error))
            return False
        return True

    if study.target is not None and not is_told(lambda: target_is_small(study.target)):
        study = replace(study, target=None)
    claims = (
        claim
        for claim in study.claims
        if claim.get("metric", study.metric) == study.metric
        or is_told(lambda claim=claim: study.smaller_in(claim["metric"]))
    )
    return replace(study, claims=tuple(claims)), said
