"""One written question and how it is to be answered: what a report needs to know besides the runs.

A sweep leaves it beside its runs, in a tag of their experiment, so that the comparing half finds it in the store;
for runs of other programs the command line says it.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from ablations.errors import InputError

SMALLER_IS_BETTER = re.compile(
    r"^(?!.*(accuracy|per_s(ec)?([^a-z]|$)|throughput)).*?"
    r"(loss|error|err_|_err|(^|[^a-z])(err|r?mse|mae|ppl|nll|[wc]er|fid)([^a-z]|$)|perplexity|brier|entropy"
    r"|time|seconds|latency|epochs_to|cost)",
    re.IGNORECASE,
)
# How metrics are called in sentences, their unit, and that of a difference.
WORDS = {
    "test/error_pct": ("test error", "%", "percentage points"),
    "test/accuracy": ("test accuracy", "", ""),
    "val/accuracy": ("validation accuracy", "", ""),
    "epochs_to_target": ("epochs to the named accuracy", "", "epochs"),
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
        smaller_is_better: None: told from the metric's name.
        question: in words.
        design: `grid` or `one_at_a_time`, whose interactions nobody asks for.
        seed_param: the param that pairs runs.
        nuisance: keys of which each variant gets its own best value, without `params.`.
        tuned_on: the metric that chooses it, without `metrics.`.
        target: a metric by epoch and the value to reach, for "epochs to".
        claims: as in `conf/study/*.yaml`: text, source, factor, variant, baseline, metric, direction, margin.
        published: what `report.published` sets beside the runs.
        sections: further text, by heading.
        command: that made the runs.
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

    def __post_init__(self) -> None:
        if not isinstance(self.margin, int | float) or not self.margin >= 0:
            raise InputError(
                f"margin: must be a number of at least 0, in the metric's unit; got {self.margin}"
            )

    @property
    def varied(self) -> tuple[str, ...]:
        """Everything that tells runs of one seed apart."""
        return (*self.factors, *self.nuisance)

    @property
    def smaller(self) -> bool:
        """Whether smaller values of the metric are better."""
        return smaller_is_better(self.metric) if self.smaller_is_better is None else self.smaller_is_better

    @property
    def noun(self) -> str:
        """The metric in a sentence."""
        return WORDS.get(self.metric, (self.metric,))[0]

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
        return json.dumps(asdict(self), ensure_ascii=False)

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
        try:
            return cls.read(json.loads(text))
        except (ValueError, TypeError, AttributeError) as error:
            line = " ".join(str(error).split())
            raise InputError(f"a study is kept in no form that is known here: {line}") from None


def smaller_is_better(metric: str) -> bool:
    """Told from the name: losses, errors and times are better small, everything else large."""
    return SMALLER_IS_BETTER.search(metric) is not None


def label(metric: str) -> str:
    """A metric at an axis, with its unit."""
    noun, own, _ = WORDS.get(metric, (metric, "", ""))
    return f"{noun} ({own})" if own else noun


def unit(metric: str) -> str:
    """The unit of a difference in words, '' where the metric is a bare number."""
    return WORDS.get(metric, ("", "", ""))[2]


def tag_of(name: str) -> str:
    """The tag of the experiment that keeps the study of a sweep's name."""
    return f"study.{hashlib.sha256(name.encode()).hexdigest()[:16]}"
