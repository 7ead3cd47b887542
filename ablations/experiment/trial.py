"""A run as part of a trial: one setting that a study's tuning tries, on one of its seeds."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from omegaconf import DictConfig

from ablations.errors import InputError, PlainError
from ablations.tracking.columns import OFFERED, TRIAL, TUNING


class PrunedError(PlainError):
    """The training lags so far behind earlier trials that it was stopped."""


@dataclass(frozen=True)
class Trial:
    """What a run is told of its trial.

    Attributes:
        tuning: the id of the tuning of its variant.
        number: of the trial, from 1.
        offered: what the variant may choose from, as JSON.
        metric: that decides.
        smaller: whether smaller values of it are better.
        bounds: by epoch, from the first, what its best value so far must not be worse than; None: anything will do.
    """

    tuning: str
    number: int
    offered: str
    metric: str
    smaller: bool
    bounds: Sequence[float | None]

    @classmethod
    def of(cls, config: DictConfig) -> "Trial | None":
        """The trial of a configuration, whose `sweep.trial` names it as ID/NUMBER; None for a run of none."""
        if config.sweep.trial is None:
            return None
        tuning, _, number = str(config.sweep.trial).partition("/")
        try:
            told = json.loads(config.sweep.tuning)
            own = told["of"][tuning]
            bounds = own["bounds"].get(str(config.seed), [])
            offered = json.dumps(own["offered"])
            return cls(tuning, int(number), offered, told["metric"], told["smaller"], bounds)
        except (TypeError, ValueError, LookupError, AttributeError):
            raise InputError(
                f"sweep.trial={config.sweep.trial}: the tuning of a study fills it in; leave it out"
            ) from None

    @property
    def tags(self) -> dict[str, str]:
        """By which its run is found again."""
        return {TUNING: self.tuning, TRIAL: str(self.number), OFFERED: self.offered}

    def require_ahead(self, history: Sequence[Mapping[str, float]]) -> None:
        """Raise PrunedError where the best value of some epochs (`history`: their metrics) is behind the bound at the
        last of them."""
        at = len(history)
        bound = self.bounds[at - 1] if at <= len(self.bounds) else None
        values = [metrics[self.metric] for metrics in history if self.metric in metrics]
        if bound is None or not values:
            return
        best = min(values) if self.smaller else max(values)
        if best > bound if self.smaller else best < bound:
            raise PrunedError(
                f"pruned after epoch {at}: the best {self.metric} so far, {best:.4g}, is behind {bound:.4g}, the "
                "median of the trials before"
            )
