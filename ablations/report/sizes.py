"""What is said of a factor that is the size of the training set."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import pandas as pd
from matplotlib.figure import Figure

from ablations.comparison.sizes import Change, change_per_doubling, is_size, sizes_of
from ablations.plots.sizes import by_size, values_by_size
from ablations.plots.style import HIGHLIGHTED
from ablations.report.analysis import Analysis
from ablations.report.escaping import Markdown, md
from ablations.tracking.columns import param

FEWEST_PAIRS = 6  # with a finite interval

LOGARITHMIC = (
    "Both axes are logarithmic: along a straight line each doubling of the training set changes the {} by the "
    "same share."
)
LOGARITHMIC_SIZE = (
    "The horizontal axis is logarithmic: equal steps multiply the training set by the same number."
)
CHANGES = "Fitted seed by seed over the sizes drawn, a doubling changes the {} by {}."
CERTAIN = (
    "Fitted seed by seed over the sizes drawn, a doubling changes the {} by {}; in brackets 95 % intervals."
)
INTERVAL = "The bar is the 95 % interval of the mean."
AXES = {"dataset.train_images": "training images"}
RANGE = "The bar reaches from the lowest to the highest seed: fewer than six have no finite interval."


@dataclass(frozen=True)
class BySize:
    """The outcome against the size of the training set, for each setting of the other factors.

    Attributes:
        analysis: of the runs.
        factor: the key of the size.
        sizes: by its levels, in order.
    """

    analysis: Analysis
    factor: str
    sizes: dict[str, float]

    @classmethod
    def of(cls, analysis: Analysis) -> "BySize | None":
        """That of the first factor that is a size with levels enough; None where there is none, or too few results."""
        for factor in filter(is_size, analysis.study.factors):
            sizes = sizes_of(analysis.variants[param(factor)].astype(str).tolist())
            if sizes and not (found := cls(analysis, factor, sizes)).table.empty:
                return found
        return None

    @cached_property
    def others(self) -> list[str]:
        """The keys of the other factors."""
        return [key for key in self.analysis.study.factors if key != self.factor]

    @cached_property
    def settings(self) -> list[tuple[str, ...]]:
        """Of the other factors, by the best mean that each has at any size."""
        rows = self.analysis.variants[[param(key) for key in self.others]].astype(str)
        return list(dict.fromkeys(rows.itertuples(index=False, name=None))) if self.others else [()]

    @cached_property
    def variants(self) -> pd.Series:
        """Of each run the number of its setting."""
        runs = self.analysis.runs
        rows = runs[[param(key) for key in self.others]].astype(str).itertuples(index=False, name=None)
        numbers = {setting: number for number, setting in enumerate(self.settings)}
        return pd.Series([numbers.get(row) for row in rows] if self.others else 0, index=runs.index)

    @cached_property
    def table(self) -> pd.DataFrame:
        """As `plots.sizes.by_size` gives it."""
        return by_size(self.analysis.runs, self.factor, self.sizes, self.variants)

    def figure(self, names: Sequence[str]) -> Figure:
        """Drawn, with these names of the settings."""
        title, axis = ", ".join(self.others), AXES.get(self.factor, self.factor)
        return values_by_size(self.table, names, self.analysis.study.label, axis, title, self.logarithmic)

    @property
    def logarithmic(self) -> bool:
        """Whether ratios of the outcome mean something: those of an error, of no accuracy and of nothing down to 0."""
        return bool(self.analysis.study.smaller and (self.table["low"] > 0).all())

    @property
    def caption(self) -> Markdown:
        """What to see in it."""
        noun = self.analysis.study.noun
        bars = md(INTERVAL if self.table["n"].min() >= FEWEST_PAIRS else RANGE)
        if not self.logarithmic:
            return md(" ").join([md(LOGARITHMIC_SIZE), bars])
        said = [md(LOGARITHMIC, noun), bars]
        if changes := list(self._changes()):
            certain = any(math.isfinite(change.low) for _, change in changes)
            written = md(", ").join(_change(name, change) for name, change in changes)
            said.append(md(CERTAIN if certain else CHANGES, noun, written))
        return md(" ").join(said)

    def _changes(self) -> Iterator[tuple[str, Change]]:
        """By the name of a setting; none where runs are no pairs, whose seeds tell nothing."""
        if self.analysis.study.unpaired:
            return
        for number, own in list(self.table.groupby("variant"))[:HIGHLIGHTED]:
            runs = self.analysis.runs[self.variants == number]
            drawn = {level: size for level, size in self.sizes.items() if size in set(own["size"])}
            if change := change_per_doubling(runs, self.factor, drawn):
                yield " ".join(self.settings[number]), change


def _change(name: str, change: Change) -> Markdown:
    said = md("{}", _percent(change.mean))
    if math.isfinite(change.low):
        said = md("{} [{}, {}]", said, _percent(change.low), _percent(change.high))
    return md("{} for {}", said, name) if name else said


def _percent(share: float) -> str:
    return f"{100 * share:+z.1f} %".replace("-", "−")
