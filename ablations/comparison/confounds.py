"""What the two sides of a comparison differ in besides the factor, as far as it is known.

Both sides are compared run by run: all params, the code, versions, digests of the data sets, tags. What a level brings
by design is told apart from what has no business there, and from what only names or places a run.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Any

import pandas as pd

from ablations.tracking.columns import PARAM, TAG, column, inputs_in, natural, param, params_in, tag, text
from ablations.tracking.columns import given as given_column
from ablations.tracking.direction import listed, words_of
from ablations.tracking.spelling import is_number, same

NAMES = listed(
    """
    name run_name experiment experiment_name exp exp_name project project_name title label note notes
    comment comments description desc remark author owner user username email team tag tags id uuid
    run_id run_uuid trial trial_id trial_number trial_name number job_id job_name task_id process_id pid
    sweep_id study_name experiment_id parent_run_id session_id wandb_id wandb_run_id slurm_job_id
    slurm_array_task_id slurm_array_job_id time date datetime timestamp start_time end_time started
    ended started_at ended_at created created_at finished_at launch_time run_date run_time
    datetime_start datetime_complete host hostname host_name node node_name nodename machine
    machine_name server cluster device device_name device_id gpu gpu_name gpu_id cuda_device
    cuda_visible_devices cpu cpu_name platform os local_rank global_rank node_rank master_addr master_port
    port ip queue verbose verbosity log_level progress_bar runid jobid exp_id uid guid unique_id
    time_stamp run_timestamp start_timestamp git_branch created_by hub_model_id
    """
)
"""Params and tags that only name or place a run, whole, in small letters, their words joined by `_`."""

PLACES = listed(
    """
    path paths dir dirs directory directories folder folders root uri url filename file logfile logdir outdir
    workdir savedir cwd home mirrors
    """
)
"""Last words of params and tags that only name a place."""

PLACE_OR_CHOICE = re.compile(r"(.*_)?name_or_path")
"""Whole names, as in `NAMES`, that are a place only where their values are: `bert-base` is a choice."""

NAMES_ANYWHERE = frozenset(name for name in NAMES if "_" in name and not name.endswith("_time")) | listed(
    "timestamp datetime hostname uuid username"
)
"""Of the names those that only name a run in any section, too: `args.run_name`, but not `model.name`."""

BOOKKEEPING = listed(
    "logger loggers logging wandb mlflow tensorboard comet neptune clearml slurm hydra optuna"
)
"""First words of params and tags that belong to what tracks or launches runs."""

PATH = re.compile(r"(/|~/|\.{1,2}/|[A-Za-z]:[\\/]|[A-Za-z][\w+.-]+://).*", re.DOTALL)
"""A value that is a place."""

COUNTS = listed(
    """
    parameters n_parameters num_parameters parameter_count n_params num_params param_count total_params
    trainable_params trainable_parameters total_parameters connections macs flops
    """
)
"""Last parts of params that follow from the choice: how large a network is."""

NAMED_SECTION = listed("name type class kind _target_ id")
"""Last parts of a factor that names the section it stands in: `optimizer.name` brings `optimizer.momentum`."""

DATA_WORDS = listed("data dataset datasets")
KINDS_OF_FACTS = {
    "code": frozenset(["commit", "revision", "code"]),
    "versions": frozenset(["version", "versions"]),
    "data": frozenset(["digest", "sha256", "sha1", "md5", "checksum", "fingerprint"]),
}
"""What a pair of runs should have recorded, by the words of the params and tags that do."""

MLFLOW = ("mlflow.source.", "mlflow.git.", "mlflow.docker.")
"""Of MLflow's own tags those that say what was run."""
MLFLOW_NAMES = (
    *("mlflow.source.git.branch", "mlflow.source.git.repoURL", "mlflow.git.branch", "mlflow.git.repo_url"),
    "mlflow.docker.image.uri",
)
SOURCE = "mlflow.source.name"

INPUT = "data set ("
"""How the key of a data set that was logged as an input begins."""

OURS, CODE, COMMIT, VERSIONS = tag("config_hash"), tag("code_hash"), tag("code"), tag("versions")
DATA = tag("data_sha256")
OWN_FACTS = (CODE, COMMIT, VERSIONS, DATA)
"""Tags that say what a run of ours was."""
TOOLS = ("hydra-core", "mlflow")
"""Packages that compose and track our runs, and change no result."""


@dataclass(frozen=True)
class Rules:
    """What may differ.

    Attributes:
        brings: by factor and level the keys that the level sets by design; None where a study does not say.
        ignore: keys, or patterns of keys, that only name a run, besides the list of this module.
        tuned: keys of which each variant has its own best value.
    """

    brings: Mapping[str, Mapping[str, Sequence[str]]] | None = None
    ignore: tuple[str, ...] = ()
    tuned: tuple[str, ...] = ()


@dataclass(frozen=True)
class Differing:
    """A key in which the two sides differ.

    Attributes:
        key: of a param, a tag, or a data set that was logged as an input.
        variant: its values on the variant's side, in order.
        baseline: its values on the baseline's side.
        seeds: in which it differs.
    """

    key: str
    variant: tuple[str, ...]
    baseline: tuple[str, ...]
    seeds: tuple[str, ...]


@dataclass(frozen=True)
class Found:
    """What two sides differ in, run by run.

    Attributes:
        confounds: what has no business there.
        varied_with: what a level brings by design.
        noted: keys that differ and only name or place the runs.
        unknown: keys that only one side logged.
        unrecorded: of code, versions and data what some pair did not record on both sides.
    """

    confounds: tuple[Differing, ...] = ()
    varied_with: tuple[Differing, ...] = ()
    noted: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    unrecorded: tuple[str, ...] = ()


NOTHING = Found()


def facts_in(columns: Iterable[str]) -> list[str]:
    """Of a table's columns those that say what a run was, whoever made it."""
    columns = list(columns)
    tags = [name for name in columns if name.startswith(TAG) and _tells(name.removeprefix(TAG))]
    return [*map(param, params_in(columns)), *map(given_column, inputs_in(columns)), *tags]


def _tells(key: str) -> bool:
    return not key.startswith("mlflow.") or (key.startswith(MLFLOW) and key not in MLFLOW_NAMES)


def known(runs: pd.DataFrame, apart: Sequence[str]) -> list[dict[str, str]]:
    """For each run what is known of it: the text of each column that says what it was. Runs that say the same share
    one dictionary.

    Args:
        runs: as the reader gives them.
        apart: the columns that tell the runs of a study apart.
    """
    names = list(dict.fromkeys([*(name for name in facts_in(runs) if name not in apart), OURS]))
    texts = {name: _texts(column(runs, name)) for name in names}
    ours = [name for name in names if name != OURS and (not name.startswith(TAG) or name in OWN_FACTS)]
    alike: dict[tuple[str | None, ...], dict[str, str]] = {}
    found = []
    for row in zip(*texts.values(), strict=True):
        told = dict(zip(names, row, strict=True))
        own = told[OURS] is not None or told.get(CODE) is not None
        key = tuple(told[name] for name in ours) if own else row
        if key not in alike:
            alike[key] = dict(_own_facts({name: told[name] for name in ours}) if own else _facts(told))
        found.append(alike[key])  # runs of one setting say the same
    return found


def _texts(cells: pd.Series) -> list[str | None]:
    same_text = lru_cache(None, typed=True)(text)
    return [same_text(value) for value in cells.to_numpy(dtype=object).tolist()]


def known_columns(runs: pd.DataFrame) -> list[str]:
    """The columns that say what some run was."""
    told = {id(each): each for each in known(runs, ())}
    return sorted({name for each in told.values() for name in each})


def _facts(told: Mapping[str, str | None]) -> Iterator[tuple[str, str]]:
    for name, value in told.items():
        if value is not None:
            yield name, re.split(r"[/\\]", value)[-1] if name == tag(SOURCE) else value


def _own_facts(told: Mapping[str, str | None]) -> Iterator[tuple[str, str]]:
    """Of our runs: the code that determines the result in place of the commit, and no tag of the bookkeeping."""
    for name, value in told.items():
        if value is None:
            continue
        if name == VERSIONS:
            parts = (part for part in value.split(", ") if part.partition(" ")[0] not in TOOLS)
            yield name, ", ".join(parts)
        elif not name.startswith(TAG) or name in (CODE, DATA) or (name == COMMIT and told.get(CODE) is None):
            yield name, value


def differences(
    pairs: Sequence[tuple[str, str, Mapping[str, str], Mapping[str, str]]],
    sides: Mapping[str, tuple[str, str]],
    rules: Rules,
) -> Found:
    """What the two sides of some pairs of runs differ in.

    Args:
        pairs: for each a seed, the factor in which its runs differ, and what is `known` of the variant's and the
            baseline's run.
        sides: of each factor the variant's level and the baseline's.
        rules: what may differ.
    """
    kinds = _Kinds()
    alike: dict[tuple[int, int, str], list[int]] = {}
    for at, (_, factor, ours, theirs) in enumerate(pairs):
        alike.setdefault((id(ours), id(theirs), factor), []).append(at)
    for every in alike.values():
        seeds = [pairs[at][0] for at in every]
        _, factor, ours, theirs = pairs[every[0]]
        for name in {**ours, **theirs}:
            there = ours.get(name), theirs.get(name)
            if there[0] == there[1]:
                continue
            key = shown(name)
            if None in there:
                if not (_only_names(key, there, rules) or _by_design(name, factor, sides[factor], rules)):
                    kinds.unknown[key] = None
            elif not _equal(name, *there):
                if _by_design(name, factor, sides[factor], rules):
                    kinds.add(kinds.varied_with, key, there, seeds)
                elif _only_names(key, there, rules):
                    kinds.noted[key] = None
                else:
                    kinds.add(kinds.confounds, key, there, seeds)
    first = [pairs[every[0]] for every in alike.values()]
    return Found(
        confounds=kinds.tuples(kinds.confounds),
        varied_with=kinds.tuples(kinds.varied_with),
        noted=tuple(sorted(kinds.noted)),
        unknown=tuple(sorted(kinds.unknown.keys() - kinds.confounds.keys())),
        unrecorded=tuple(kind for kind in KINDS_OF_FACTS if not _recorded(kind, first)),
    )


def side_by_side(
    variant: Sequence[Mapping[str, str]], baseline: Sequence[Mapping[str, str]]
) -> list[tuple[dict[str, str], dict[str, str]]]:
    """Two sides of as many runs each as pairs that differ only where the sides do, not where single runs do.

    Of each key the values of either side are put in order by themselves: what other factors vary is there as often on
    either side of a balanced comparison, and falls out.
    """
    paired: list[tuple[dict[str, str], dict[str, str]]] = [({}, {}) for _ in variant]
    for name in dict.fromkeys(name for run in (*variant, *baseline) for name in run):
        for side, of in enumerate((variant, baseline)):
            values = sorted((run[name] for run in of if name in run), key=natural)
            for pair, value in zip(paired, values, strict=False):
                pair[side][name] = value
    return paired


def merged(found: Sequence[Found]) -> Found:
    """What several comparisons differ in, together."""

    def together(name: str) -> tuple[Any, ...]:
        return tuple(dict.fromkeys(each for of in found for each in getattr(of, name)))

    return Found(**{each.name: together(each.name) for each in fields(Found)})


@dataclass
class _Kinds:
    """Differences while they are found, by key: the values of each side and the seeds."""

    confounds: dict[str, tuple[dict, dict, dict]] = field(default_factory=dict)
    varied_with: dict[str, tuple[dict, dict, dict]] = field(default_factory=dict)
    noted: dict[str, None] = field(default_factory=dict)
    unknown: dict[str, None] = field(default_factory=dict)

    @staticmethod
    def add(to: dict, key: str, values: Iterable[Any], seeds: Iterable[str]) -> None:
        *sides, seen = to.setdefault(key, ({}, {}, {}))
        for side, value in zip(sides, values, strict=True):
            side[value] = None
        seen.update(dict.fromkeys(seeds))

    @staticmethod
    def tuples(found: Mapping[str, tuple[dict, dict, dict]]) -> tuple[Differing, ...]:
        ordered = ((key, *(tuple(sorted(seen, key=natural)) for seen in of)) for key, of in found.items())
        return tuple(Differing(*each) for each in sorted(ordered))


def shown(name: str) -> str:
    """The key of a column as a person reads it."""
    if (own := inputs_in([name])) or (own := params_in([name])):
        return f"{INPUT}{own[0]})" if name == given_column(own[0]) else own[0]
    return name.removeprefix(TAG)


def _equal(name: str, value: str, other: str) -> bool:
    """Params and tags as numbers where both are; digests and commits (`1e5`) are texts."""
    of_somebody = name.startswith(PARAM) or (name.startswith(TAG) and not shown(name).startswith("mlflow."))
    return value == other or (of_somebody and not _kinds_of(name) and same(value, other))


def only_names(key: str, values: Iterable[str | None], ignore: Iterable[str] = ()) -> bool:
    """Whether a param or tag only names or places the run."""
    return _only_names(key, tuple(values), Rules(ignore=tuple(ignore)))


def _only_names(key: str, values: tuple[str | None, ...], rules: Rules) -> bool:
    bare = [each.removeprefix(PARAM).removeprefix(TAG) for each in rules.ignore]
    if any(key == each or fnmatchcase(key, each) for each in bare):
        return True
    words = words_of(key) or [""]
    if key.startswith(MLFLOW):
        return False
    told = [value for value in values if value is not None]
    own = "_".join(words_of(re.split(r"[./:]", key)[-1]))
    if "_".join(words) in NAMES or own in NAMES_ANYWHERE or words[0] in BOOKKEEPING:
        return True
    if words[-1] in PLACES and not PLACE_OR_CHOICE.fullmatch(own):
        return words[-1] != "path" or not told or not all(map(is_number, told))  # `drop_path` is a rate
    return bool(told) and all(PATH.fullmatch(value) for value in told)


def _by_design(name: str, factor: str, levels: tuple[str, str], rules: Rules) -> bool:
    """Whether the levels of a factor bring such a difference."""
    key = shown(name)
    if key in rules.tuned or follows(key, factor):
        return True
    brings = (rules.brings or {}).get(factor)
    if brings is None:
        return rules.brings is None and factor == "experiment" and name.startswith(PARAM)
    return any(key in keys for level, keys in brings.items() for side in levels if same(level, side))


def follows(key: str, factor: str) -> bool:
    """Whether a key differs because a factor does, and says nothing beyond that: it stands in the factor's own section,
    counts what a network is made of, or is the digest of data that the factor chooses.

    Args:
        key: as `Differing` has it.
        factor: a param.
    """
    section, _, last = factor.rpartition(".")
    own = section if last in NAMED_SECTION and section else factor
    if key.startswith(tuple(own + mark for mark in (".", "/", ":", "__"))):
        return True
    if "_".join(words_of(re.split(r"[./:]", key)[-1])) in COUNTS:
        return True
    of_data = key.startswith(INPUT) or "data" in _kinds_of(key)
    return of_data and not DATA_WORDS.isdisjoint(words_of(factor))


def _kinds_of(name: str) -> set[str]:
    """Of what a column is a record: code, versions, data; of nothing else."""
    if inputs_in([name]):
        return {"data"}
    words = set(words_of(shown(name)))
    found = {kind for kind, of in KINDS_OF_FACTS.items() if words & of}
    if words & {"hash", "sha", "git"} and not found:
        found = {"code" if words & {"git", "code", "source"} else "data"}
    return found - {"code"} if name == tag(SOURCE) else found


def _recorded(kind: str, pairs: Sequence[tuple[str, str, Mapping[str, str], Mapping[str, str]]]) -> bool:
    """Whether both sides of every pair recorded something of a kind."""
    cache: dict[str, bool] = {}

    def is_of(name: str) -> bool:
        if name not in cache:
            cache[name] = kind in _kinds_of(name)
        return cache[name]

    return all(any(name in theirs for name in ours if is_of(name)) for _, _, ours, theirs in pairs)
