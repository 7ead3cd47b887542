"""What `study.tuning` offers: which settings each variant may choose for itself, in how many trials, on which seeds."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig, OmegaConf

from ablations.commands import say
from ablations.errors import InputError, printable
from ablations.experiment.finished import data_sha256
from ablations.experiment.job import NOT_DETERMINING, determining, digest, is_below, leaves
from ablations.experiment.provenance import code_hash
from ablations.sweep.composing import PlannedRun
from ablations.sweep.overrides import Given, override_value
from ablations.sweep.plan import SEED, Plan
from ablations.tracking.study import Study

FIRST_SEED = 10_000
"""From here on seeds are counted that tune; those that evaluate are counted from 0."""
TPE, RANDOM, GRID = "tpe", "random", "grid"
RANGE = {"low", "high", "log", "step"}
ACCEPTED_OFFERS = (
    "{low: 1e-4, high: 1e-1, log: true}, whole numbers with or without step, or a list of values"
)

Offer = Mapping[str, Any]
"""`low`, `high`, `log` and, where there is one, `step`; or `values`."""


@dataclass(frozen=True)
class Tuning:
    """The section `study.tuning`, once it has been read.

    Attributes:
        space: by key what every variant that has it may choose.
        own: by factor and level what variants of that level may choose besides, or instead.
        trials: how many settings each variant tries.
        seeds: on each of which a setting is trained.
        sampler: tpe, random or grid.
        seed: of the sampler.
        after_trials: so many complete trials come before one that may be pruned; None: none is.
        after_epochs: so many epochs are never judged.
        curve: whether what would be chosen after 1, 2, 4, 8 … trials is evaluated, too.
    """

    space: Mapping[str, Offer]
    own: Mapping[str, Mapping[str, Mapping[str, Offer]]]
    trials: int
    seeds: tuple[int, ...]
    sampler: str
    seed: int
    after_trials: int | None
    after_epochs: int
    curve: bool

    @property
    def keys(self) -> tuple[str, ...]:
        """All that some variant may choose."""
        own = (key for of in self.own.values() for level in of.values() for key in level)
        return tuple(dict.fromkeys((*self.space, *own)))

    def record(self, ids: Sequence[str]) -> dict[str, Any]:
        """What the record of the study keeps of it."""
        prune = {"after_trials": self.after_trials, "after_epochs": self.after_epochs}
        return {
            "keys": list(self.keys),
            "trials": self.trials,
            "seeds": list(self.seeds),
            "sampler": self.sampler,
            "ids": list(ids),
            "curve": self.curve,
            "prune": None if self.after_trials is None else prune,
        }


@dataclass(frozen=True)
class Variant:
    """A setting of the compared factors.

    Attributes:
        name: its levels, `optimizer=adam`.
        overrides: without the seed.
        config: of one of its runs, with the values that conf/ has for what it may choose.
        offered: by key what it may choose; nothing for one that lacks all the keys.
        id: the same for the same configuration, code, data, offer, seeds, sampler and pruning.
    """

    name: str
    overrides: tuple[str, ...]
    config: DictConfig
    offered: Mapping[str, Offer]
    id: str


def read_tuning(
    section: Mapping[str, Any], given: Mapping[str, Given]
) -> tuple[Tuning | None, dict[str, Any]]:
    """What the section `study` offers, None where that is nothing; and the section without the ranges of its levels.

    What the command line holds or sweeps is not chosen.

    Raises InputError for what is no range, unknown keys and names, and seeds or counts that make no sense.
    """
    told = section.get("tuning") or {}
    factors, own = _parted(section["factors"])
    section = {**section, "factors": factors}
    accepted = ("space", "trials", "seeds", "sampler", "seed", "prune", "curve")
    if unknown := sorted(set(told) - set(accepted)):
        raise InputError(f"study.tuning.{unknown[0]}: there is no such key; accepted: {', '.join(accepted)}")
    offers = told.get("space") or {}
    if not isinstance(offers, Mapping):
        raise InputError(
            "study.tuning.space: by key what may be chosen is expected, as {optimizer.lr: {low: 1e-4, high: 0.1}}; got "
            f"{printable(offers)}"
        )
    offered = {key: _offer(f"study.tuning.space.{key}", of) for key, of in offers.items()}
    space = {key: of for key, of in offered.items() if key not in given}
    if (offered or own) and section["nuisance"]:
        raise InputError(
            "study.tuning: beside study.nuisance there are two ways to choose; leave out one of them"
        )
    own = {
        key: {
            level: {name: of for name, of in offers.items() if name not in given}
            for level, offers in levels.items()
        }
        for key, levels in own.items()
    }
    if not space and not any(offers for levels in own.values() for offers in levels.values()):
        if offered:
            say(f"tuning: the command line sets {', '.join(offered)}, so that nothing is left to choose")
        return None, section
    tuned_on = str(section["tuned_on"])
    if tuned_on.startswith("test/"):
        raise InputError(
            f"study.tuned_on: {tuned_on} would choose on the test images; accepted: val/accuracy, …"
        )
    sampler = told["sampler"]
    if sampler not in (TPE, RANDOM, GRID):
        raise InputError(f"study.tuning.sampler: must be {TPE}, {RANDOM} or {GRID}, got {sampler}")
    trials, seed = _whole("trials", told["trials"], 1), _whole("seed", told["seed"], 0)
    after = _pruning(told["prune"])
    if not isinstance(told["curve"], bool):
        raise InputError(f"study.tuning.curve: must be true or false, got {told['curve']}")
    return Tuning(space, own, trials, _seeds(told["seeds"]), sampler, seed, *after, told["curve"]), section


def offered_variants(
    tuning: Tuning, study: Study, planned: Plan, runs: Sequence[PlannedRun]
) -> list[Variant]:
    """The variants of a plan with what each may choose.

    Raises InputError for a key that no variant has or that is compared, a grid that is too small, and for seeds that
    are to evaluate, too.
    """
    evaluating = {int(run.config.seed) for run in runs}
    if both := sorted(evaluating & set(tuning.seeds)):
        raise InputError(
            f"study.tuning.seeds: {both[0]} is a seed that evaluates, too; accepted: others, as "
            f"{max(evaluating) + 1}"
        )
    for key in tuning.keys:
        if key in planned.varied:
            raise InputError(f"study.tuning.space.{key}: it is compared, so that no variant can choose it")
        if key == SEED or is_below(key, NOT_DETERMINING):
            raise InputError(f"study.tuning.space.{key}: it does not change what a network learns from")
    found: dict[str, Variant] = {}
    for overrides, run in zip(planned.runs, runs, strict=True):
        levels = {key: run.logged(key) for key in planned.factors}
        name = " ".join(f"{key}={level}" for key, level in levels.items()) or "all runs"
        if name not in found:
            setting = without_seed(overrides)
            offered = dict(_offered(tuning, setting, run))
            _require_numbers(offered, run.config)
            _require_grid(tuning, name, offered)
            found[name] = Variant(
                name, setting, run.config, offered, _id(tuning, study, name, offered, run.config)
            )
    offered_somewhere = {key for variant in found.values() for key in variant.offered}
    if lacking := [key for key in tuning.keys if key not in offered_somewhere]:
        raise InputError(f"study.tuning.space.{lacking[0]}: no variant has such a key to choose")
    return list(found.values())


def without_seed(overrides: Sequence[str]) -> tuple[str, ...]:
    """What tells a variant's runs from those of others, among the overrides of one."""
    return tuple(each for each in overrides if not each.startswith(f"{SEED}="))


def grid(offered: Mapping[str, Offer]) -> Iterator[list[Any]]:
    """By key every value of an offer, where it is a list or has steps."""
    for key, of in offered.items():
        if "values" in of:
            yield list(of["values"])
            continue
        step = of.get("step")
        if step is None:
            raise InputError(
                f"study.tuning.space.{key}: a grid takes a list of values, or a range with a step; got {of}"
            )
        count = math.floor((of["high"] - of["low"]) / step + 1e-9)
        yield [of["low"] + step * i for i in range(count + 1)]


def _require_numbers(offered: Mapping[str, Offer], config: DictConfig) -> None:
    for key, of in offered.items():
        usual = OmegaConf.select(config, key)
        odd = [each for each in of.get("values", ()) if type(each) not in (int, float)]
        if type(usual) in (int, float) and odd:
            raise InputError(
                f"study.tuning.space.{key}: {odd[0]} is no number; accepted: numbers, as {usual}"
            )


def _require_grid(tuning: Tuning, name: str, offered: Mapping[str, Offer]) -> None:
    size = math.prod(map(len, grid(offered))) if tuning.sampler == GRID and offered else tuning.trials
    if size < tuning.trials:
        raise InputError(
            f"study.tuning.trials: the grid of {name} has {size} settings; accepted: at most so many trials, the "
            "same for every variant"
        )


def _offered(tuning: Tuning, setting: Sequence[str], run: PlannedRun) -> Iterator[tuple[str, Offer]]:
    """By key what a variant may choose: of what it has, and what its own levels do not settle."""
    settled = {each.lstrip("+~").partition("=")[0] for each in setting}
    there = {key for key, _ in leaves(OmegaConf.to_container(run.config))}
    own = [levels.get(run.logged(key), {}) for key, levels in tuning.own.items()]
    offers = {**tuning.space, **{key: of for level in own for key, of in level.items()}}
    yield from ((key, of) for key, of in offers.items() if key in there and key not in settled)


def _id(tuning: Tuning, study: Study, name: str, offered: Mapping[str, Offer], config: DictConfig) -> str:
    facts = {key: value for key, value in determining(config).items() if key != SEED and key not in offered}
    how = [tuning.seeds, tuning.sampler, tuning.seed, tuning.after_trials, tuning.after_epochs]
    what = [offered, study.tuned_on, study.smaller_tuned, code_hash(), data_sha256(config)]
    return digest({"name": name, "config": facts, "how": how, "what": what})[:8]


def _parted(
    factors: Mapping[str, Any],
) -> tuple[dict[str, Any], dict[str, dict[str, dict[str, Offer]]]]:
    """Factors without the ranges that their levels bring, and these by factor and level."""
    rest, own = {}, {}
    for key, of in factors.items():
        rest[key] = of
        if not isinstance(of, Mapping):
            continue
        rest[key], name = {}, key.lstrip("+")
        for level, settings in of.items():
            ranges = {name: each for name, each in (settings or {}).items() if isinstance(each, Mapping)}
            rest[key][level] = {name: each for name, each in (settings or {}).items() if name not in ranges}
            offers = {at: _offer(f"study.factors.{name}.{level}.{at}", each) for at, each in ranges.items()}
            if offers:
                own.setdefault(name, {})[str(level)] = offers
    return rest, own


def _offer(where: str, of: Any) -> Offer:
    """A range or a list as it is used. Raises InputError for anything else."""
    wrong = InputError(f"{where}: {of} is nothing to choose from; accepted: {ACCEPTED_OFFERS}")
    if isinstance(of, Mapping) and set(of) == {"values"}:
        of = of["values"]
    if isinstance(of, Sequence) and not isinstance(of, str):
        plain = all(each is None or isinstance(each, bool | int | float | str) for each in of)
        if not plain or len(set(map(override_value, of))) < max(len(of), 2):
            raise wrong
        return {"values": list(of)}
    if not isinstance(of, Mapping) or not {"low", "high"} <= set(of) <= RANGE:
        raise wrong
    low, high, log, step = of["low"], of["high"], of.get("log", False), of.get("step")
    numbers = [each for each in (low, high, step) if each is not None]
    if (
        not all(type(each) in (int, float) and math.isfinite(each) for each in numbers)
        or type(log) is not bool
    ):
        raise wrong
    whole = all(type(each) is int for each in numbers)
    if (
        low >= high
        or (log and (low <= 0 or step is not None))
        or (step is not None and not 0 < step <= high - low)
    ):
        raise wrong
    if not whole:
        low, high, step = float(low), float(high), None if step is None else float(step)
    return {"low": low, "high": high, "log": log} | ({} if step is None else {"step": step})


def _seeds(told: Any) -> tuple[int, ...]:
    if type(told) is int and told > 0:
        return tuple(range(FIRST_SEED, FIRST_SEED + told))
    several = isinstance(told, Sequence) and not isinstance(told, str) and len(told) > 0
    if several and all(type(each) is int and each >= 0 for each in told) and len(set(told)) == len(told):
        return tuple(told)
    raise InputError(f"study.tuning.seeds: must be how many, or a list of different ones; got {told}")


def _pruning(told: Any) -> tuple[int | None, int]:
    if told is None:
        return None, 0
    if not isinstance(told, Mapping) or set(told) != {"after_trials", "after_epochs"}:
        raise InputError(
            f"study.tuning.prune: must be null or {{after_trials: 4, after_epochs: 3}}; got {told}"
        )
    trials, epochs = (
        _whole(f"prune.{key}", told[key], least) for key, least in (("after_trials", 1), ("after_epochs", 0))
    )
    return trials, epochs


def _whole(key: str, value: Any, least: int) -> int:
    if type(value) is not int or value < least:
        raise InputError(f"study.tuning.{key}: must be a whole number of at least {least}, got {value}")
    return value
