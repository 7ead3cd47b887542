"""One written question and how it is to be answered: what a report needs to know besides the runs.

A sweep leaves it beside its runs, in a tag of their experiment, so that the comparing half finds it in the store;
for runs of other programs the command line says it.
"""

import hashlib
import json
import math
import shlex
from bisect import bisect_left
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from ablations.errors import InputError, printable
from ablations.tracking.accepted import (
    by_name,
    is_level,
    is_number,
    is_seeds,
    is_text,
    list_of,
    or_none,
    with_keys,
)
from ablations.tracking.direction import direction
from ablations.tracking.secondary import SECONDARY, part

LOOK = "look."
# How metrics are called in sentences, their unit, and that of a difference.
WORDS = {
    "test/error_pct": ("test error", "%", "percentage points"),
    "test/accuracy": ("test accuracy", "", ""),
    "val/accuracy": ("validation accuracy", "", ""),
    "epochs_to_target": ("epochs to the named accuracy", "", "epochs"),
    **{name: each[:3] for name, each in SECONDARY.items()},
}


@dataclass(frozen=True)
class Study:
    """A question, the comparisons that answer it, and the rules by which.

    What may be unsaid, as of runs of other programs, is nothing here; defaults stand in conf/config.yaml alone.

    Attributes:
        name: of the sweep, and of the report's folder.
        factors: the keys that are compared, without `params.`.
        baseline: of each factor the level that the others are compared with; of those not named the first in order.
        metric: name of the outcome, without `metrics.`.
        margin: largest difference that does not matter, in the metric's unit.
        smaller_is_better: None: told from the metric's name, where that leaves no doubt.
        tuned_smaller_is_better: the same of `tuned_on`.
        question: in words.
        design: `grid`; `one_at_a_time`, `add_one_in` and `ladder`, whose interactions nobody asks for; `fraction`.
        seed_param: the param that pairs runs.
        nuisance: keys of which each variant gets its own best value, without `params.`.
        tuned_on: the metric that chooses it, without `metrics.`.
        target: a metric by epoch and the value to reach, for "epochs to".
        claims: as in `conf/study/*.yaml`: text, source, factor, variant, baseline, metric, direction, margin,
            smaller_is_better.
        published: what `report.published` sets beside the runs.
        sections: further text, by heading.
        command: that made the runs.
        brings: by factor and level the keys in which the level differs from the baseline's by design, besides the
            factor and its own section; None in studies that were kept before this was.
        ignore: params and tags that only name a run: they may differ.
        average_over: params that were varied besides and are not compared: a seed's value is the mean over theirs.
        blocks: the param with the data sets or folds within which variants are compared.
        unpaired: whether runs without seeds are compared group by group.
        value: of a metric logged several times: `best`, `last`, `mean-of-last-N`; None: the last.
        where: the expression that the combinations of a grid had to fulfil.
        steps: of a ladder, by factor its levels in the order in which they are added, first the one it starts from.
        until: of a study that runs until it is settled: `seeds_at_least`, `seeds_at_most`; once it has ended `ended`:
            `done` or `budget`, with that one `budget_s` and `next_s`, what another round would have taken (seconds).
        tuning: what each variant chose for itself: `keys`, `trials`, `seeds`, `sampler`, `curve` and `prune` as in
            conf/config.yaml, and the `ids` by which the runs of the trials are found.
    """

    name: str
    factors: tuple[str, ...]
    baseline: Mapping[str, str]
    metric: str
    margin: float
    smaller_is_better: bool | None = None
    question: str | None = None
    design: str = field(kw_only=True)
    seed_param: str = "seed"
    nuisance: tuple[str, ...] = ()
    tuned_on: str = field(kw_only=True)
    target: Mapping[str, Any] | None = None
    claims: tuple[Mapping[str, Any], ...] = ()
    published: Mapping[str, Any] = field(default_factory=dict)
    sections: Mapping[str, str] = field(default_factory=dict)
    command: str | None = None
    tuned_smaller_is_better: bool | None = None
    brings: Mapping[str, Mapping[str, tuple[str, ...]]] | None = None
    ignore: tuple[str, ...] = ()
    average_over: tuple[str, ...] = ()
    blocks: str | None = None
    unpaired: bool = False
    value: str | None = None
    where: str | None = None
    steps: Mapping[str, tuple[str, ...]] | None = None
    until: Mapping[str, Any] | None = None
    tuning: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.margin, int | float) or not 0 <= self.margin < math.inf:
            raise InputError(
                f"margin: must be a number of at least 0, in the metric's unit; got {self.margin}"
            )

    @property
    def varied(self) -> tuple[str, ...]:
        """Everything that tells runs of one seed apart."""
        blocks = () if self.blocks is None else (self.blocks,)
        return (*self.factors, *self.nuisance, *self.average_over, *blocks)

    @property
    def chosen(self) -> tuple[str, ...]:
        """The keys that variants choose for themselves: among values that all seeds were run with, or in trials."""
        return (*self.nuisance, *(self.tuning["keys"] if self.tuning else ()))

    @property
    def smaller(self) -> bool:
        """Whether smaller values of the metric are better. Raises InputError where nobody says it."""
        return direction(
            self.metric, self.smaller_is_better, "--better lower|higher (study.smaller_is_better)"
        )

    @property
    def smaller_tuned(self) -> bool:
        """Whether smaller values of `tuned_on` are better. Raises InputError where nobody says it."""
        said = self.tuned_smaller_is_better
        if said is None and self.tuned_on == self.metric:
            said = self.smaller_is_better
        return direction(self.tuned_on, said, "--tuned-better lower|higher (study.tuned_smaller_is_better)")

    def smaller_in(self, metric: str) -> bool:
        """Whether smaller values of the study's metric, or of one of its claims', are better. Raises InputError."""
        if metric == self.metric:
            return self.smaller
        said = (claim.get("smaller_is_better") for claim in self.claims if claim.get("metric") == metric)
        said = next((each for each in said if each is not None), None)
        return direction(metric, said, "smaller_is_better of the claim in study.claims")

    def require_directions(self) -> None:
        """Raise InputError where nobody says which values of a metric that the study asks for are better."""
        for metric in (self.metric, *(claim.get("metric", self.metric) for claim in self.claims)):
            self.smaller_in(metric)
        if self.chosen:
            _ = self.smaller_tuned
        if self.target is not None:
            target_is_small(self.target)

    @property
    def noun(self) -> str:
        """The metric in a sentence."""
        return words(self.metric)[0]

    @property
    def label(self) -> str:
        """The metric at an axis, with its unit."""
        return label(self.metric)

    @property
    def unit(self) -> str:
        """The unit of a difference in words, '' where the metric is a bare number."""
        return unit(self.metric)

    def to_json(self) -> str:
        """One line, the same for the same study."""
        said = {
            name: value
            for name, value in asdict(self).items()
            if name not in YOUNGER
            or value not in (None, (), False)
            or (name == "tuned_smaller_is_better" and value is False)
        }
        return json.dumps(said, ensure_ascii=False)

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> "Study":
        """From plain values, as YAML and JSON have them; keys that are no attribute are passed over."""
        known = {each.name: values[each.name] for each in fields(cls) if each.name in values}
        return cls(
            **{key: tuple(value) if isinstance(value, list) else value for key, value in known.items()}
        )

    @classmethod
    def from_json(cls, text: str) -> "Study":
        """What `to_json` wrote. Raises InputError for anything else."""
        values, wrong = _fields(text)
        if wrong:
            raise InputError(f"a study is kept in no form that is known here: {wrong[0]}")
        return cls.read(values)

    def with_readable(self, text: str) -> tuple["Study", list[str]]:
        """This study with all that can be read of what `to_json` wrote, and what cannot, in words."""
        values, wrong = _fields(text)
        found = self.read(vars(self) | values)
        if len(set(found.varied)) < len(found.varied):
            found = replace(found, factors=self.factors, nuisance=())
            wrong.append("factors: the same twice")
        return found, wrong


def _fields(text: str) -> tuple[dict[str, Any], list[str]]:
    """The fields of a study in JSON that are what they should be, and what is wrong with the others."""
    try:
        values = json.loads(text)
    except (ValueError, TypeError, RecursionError) as error:
        return {}, [printable(str(error))]
    if not isinstance(values, dict):
        return {}, ["no object in JSON"]
    good, wrong = {}, []
    for name, accepts in ACCEPTED.items():
        if name in values and accepts(values[name]):
            good[name] = values[name]
        elif name in values:
            wrong.append(f"{name}: {printable(json.dumps(values[name]))[:80]}")
        elif name in REQUIRED:
            wrong.append(f"{name}: missing")
    return good, wrong


def _is_command(value: Any) -> bool:
    try:
        return is_text(value) and bool(shlex.split(value))
    except ValueError:  # a quote that is never closed
        return False


_CLAIM = with_keys(
    {**dict.fromkeys(("text", "source", "factor"), is_text), "variant": is_level, "baseline": is_level},
    {
        "metric": is_text,
        "direction": lambda value: value in ("better", "worse", "not_worse"),
        "margin": or_none(lambda value: is_number(value) and value >= 0),
        "smaller_is_better": or_none(lambda value: isinstance(value, bool)),
    },
)
_PUBLISHED = with_keys(
    {"system": is_text, "figures": by_name(or_none(is_number))},
    {
        "shown": list_of(is_text),
        "seconds_per_epoch": or_none(is_level),
        "why": or_none(lambda value: isinstance(value, str)),
    },
)
_UNTIL = with_keys(
    {"seeds_at_least": is_seeds, "seeds_at_most": is_seeds},
    {"ended": is_text, "budget_s": is_number, "next_s": is_number},
)
_TUNING = with_keys(
    {
        "keys": list_of(is_text),
        "trials": lambda value: type(value) is int and value > 0,
        "seeds": list_of(lambda value: type(value) is int),
        "sampler": is_text,
        "ids": list_of(is_text),
        "curve": lambda value: isinstance(value, bool),
    },
    {"prune": or_none(by_name(is_number))},
)
ACCEPTED: Mapping[str, Callable[[Any], bool]] = {
    "name": lambda value: isinstance(value, str),
    "factors": list_of(is_text),
    "baseline": by_name(is_level),
    "metric": is_text,
    "margin": lambda value: is_number(value) and value >= 0,
    "smaller_is_better": or_none(lambda value: isinstance(value, bool)),
    "tuned_smaller_is_better": or_none(lambda value: isinstance(value, bool)),
    "question": or_none(lambda value: isinstance(value, str)),
    "design": is_text,
    "seed_param": is_text,
    "nuisance": list_of(is_text),
    "tuned_on": is_text,
    "target": or_none(
        with_keys(
            {"metric": is_text, "value": is_number},
            {"smaller_is_better": or_none(lambda value: isinstance(value, bool))},
        )
    ),
    "claims": list_of(_CLAIM),
    "published": by_name(_PUBLISHED),
    "sections": by_name(lambda value: isinstance(value, str)),
    "command": or_none(_is_command),
    "brings": or_none(by_name(by_name(list_of(is_text)))),
    "ignore": list_of(is_text),
    "average_over": list_of(is_text),
    "blocks": or_none(is_text),
    "unpaired": lambda value: isinstance(value, bool),
    "value": or_none(is_text),
    "where": or_none(is_text),
    "steps": or_none(by_name(list_of(is_level))),
    "until": or_none(_UNTIL),
    "tuning": or_none(_TUNING),
}
"""What each field of a study may be in JSON."""
YOUNGER = {"tuned_smaller_is_better", "brings", "ignore", "average_over", "blocks", "unpaired", "value"}
YOUNGER |= {"where", "steps", "until", "tuning"}
"""Fields that studies of earlier versions lack; they are kept where they say something."""
REQUIRED = {"name", "factors", "baseline", "metric", "margin", "design", "tuned_on"}


def target_is_small(target: Mapping[str, Any]) -> bool:
    """Whether a target is reached by values at or below it. Raises InputError where nobody says so."""
    said = target.get("smaller_is_better")
    return direction(str(target["metric"]), said, "study.target.smaller_is_better")


def words(metric: str) -> tuple[str, str, str]:
    """How a metric is called in sentences, its unit, and that of a difference."""
    return WORDS.get(metric) or (part(metric) or (metric, "", ""))[:3]


def label(metric: str) -> str:
    """A metric at an axis, with its unit."""
    noun, own, _ = words(metric)
    return f"{noun} ({own})" if own else noun


def unit(metric: str) -> str:
    """The unit of a difference in words, '' where the metric is a bare number."""
    return words(metric)[2]


def look_tag(invocation: str) -> str:
    """The tag of the experiment that says that the report of an invocation of a sweep was compiled."""
    return LOOK + invocation


def looks_in(tags: Mapping[str, str]) -> dict[str, str]:
    """By id of each invocation whose report was compiled the name of its sweep, from the tags of an experiment."""
    return {key.removeprefix(LOOK): sweep for key, sweep in tags.items() if key.startswith(LOOK)}


def looks_of(looks: Iterable[Mapping[str, str]], sweeps: Container[str], first: Container[str]) -> list[str]:
    """The ids of the invocations whose report showed some of the runs of these sweeps.

    Args:
        looks: as `looks_in` gives them, of each experiment.
        sweeps: those of the runs.
        first: the ids of the invocations that first had the runs, which may be of other sweeps.
    """
    return sorted({id for each in looks for id, sweep in each.items() if sweep in sweeps or id in first})


def look_numbers(first: Sequence[str], looks: Iterable[str]) -> list[int]:
    """For each run the number of the look at which it was there first, from 1.

    That is the look of the invocation that first had it, or the next one whose report was compiled; where there is
    none since, it is there now.

    Args:
        first: for each run the id of that invocation.
        looks: the ids of the invocations whose report was compiled.
    """
    ends = sorted(set(looks))
    at = [bisect_left(ends, id) for id in first]
    numbers = {place: number for number, place in enumerate(sorted(set(at)), 1)}
    return [numbers[place] for place in at]


def sweep_of_trials(name: str) -> str:
    """What the sweep of a study's trials is called, which its report does not compare."""
    return f"{name}/tuning"


def sweep_of_prefixes(name: str) -> str:
    """What the sweep is called that evaluates what would be chosen after fewer trials."""
    return f"{name}/fewer-trials"


def is_aside(name: object) -> bool:
    """Whether a sweep's name is that of trials, or of what fewer of them would have chosen: it is nobody's last sweep,
    and its runs are compared where they are asked for by that name alone."""
    return str(name).endswith((sweep_of_trials(""), sweep_of_prefixes("")))


def tag_of(name: str) -> str:
    """The tag of the experiment that keeps the study of a sweep's name."""
    return f"study.{hashlib.sha256(name.encode()).hexdigest()[:16]}"
