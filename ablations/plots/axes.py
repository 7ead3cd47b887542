"""What figures have in common: names that fit, axes that suit their numbers, legends."""

from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.collections import PatchCollection
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter
from numpy.typing import ArrayLike

from ablations.plots.style import DPI, HIGHLIGHTED

Look = Callable[[int], dict[str, Any]]
"""Of a variant by its number."""

LOG_FROM = 8
"""From this ratio of largest to smallest, equal steps mean equal ratios."""


def fitted(text: str, width: int = 32) -> str:
    """Text from outside as a label: cut to so many digits' width, not read as a formula, not hidden by the legend.

    Letters that the font lacks, which would all be drawn as the same box, are written as their numbers.
    """
    text = "".join(c if c.isprintable() else " " for c in str(text))
    text = "".join(c if _width(c) else f"\\u{ord(c):04x}" for c in text)
    ends = np.cumsum([_width(c) for c in text])
    if len(text) and ends[-1] > width:
        text = text[: np.searchsorted(ends, width - _width("…"), side="right")] + "…"
    text = text.replace("$", r"\$")
    return f" {text}" if text.startswith("_") else text


@cache
def _width(character: str) -> float:
    """Of a letter, in digits; 0 where the font does not have it."""
    font = get_font(findfont(FontProperties()))
    if not font.get_char_index(ord(character)):
        return 0.0
    font.set_size(10, 72)
    one, digit = (font.load_char(ord(c)).linearHoriAdvance for c in (character, "0"))
    return one / digit or 0.1


def by_epoch(axes: Axes) -> None:
    """Whole numbers along the horizontal axis."""
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1, nbins=8))


def percent(fraction: float, _: float) -> str:
    """A formatter of fractions."""
    return f"{100 * fraction:.6g}"


def is_wide(values: ArrayLike, ratio: float = LOG_FROM) -> bool:
    """Whether positive values are so far apart that ratios say more than differences."""
    values = np.asarray(values, dtype=float)
    return values.size > 0 and values.min() > 0 and values.max() > ratio * values.min()


def number_form(values: np.ndarray, sign: str = "") -> str:
    """So many decimals that two digits of the values' spread are seen, and at least two below 100."""
    if not values.size:
        return f"{sign}z.2f"
    largest, spread = np.abs(values).max(), np.ptp(values) or np.abs(values).max() or 1.0
    if largest >= 1e6 or 0 < largest < 1e-4:
        return f"{sign}.3g"
    decimals = 1 - int(np.floor(np.log10(spread)))
    return f"{sign}z.{min(max(decimals, 2 if largest < 100 else 0), 6)}f"


def limits(values: np.ndarray) -> tuple[float, float]:
    """Ends of a colour scale; never equal."""
    low, high = float(values.min()), float(values.max())
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def log_if_wide(axes: Axes, which: str, values: pd.Series, ratio: float = LOG_FROM) -> None:
    """Make the axis `x` or `y` logarithmic, where its values are wide."""
    if is_wide(values.dropna(), ratio):
        axes.set(**{f"{which}scale": "log"})
        plain_numbers(getattr(axes, f"{which}axis"))


def plain_numbers(axis: Axis) -> None:
    """On a logarithmic axis: 1, 2, 5, 10 instead of powers."""
    if axis.get_scale() != "log":
        return
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(lambda value, _: f"{value:g}")
    axis.set_minor_formatter(NullFormatter())


def log_note(axis: Axis) -> str:
    """What to say of a logarithmic axis at its label."""
    return ", logarithmic" if axis.get_scale() == "log" else ""


def legend(figure: Figure, names: Sequence[str], variants: Iterable[int], title: str, look: Look) -> None:
    """The variants in colour by name, best first, and how many others there are."""
    variants = sorted(set(variants))
    named = [variant for variant in variants if variant < HIGHLIGHTED]
    texts = [fitted(names[variant]) for variant in named]
    if others := len(variants) - len(named):
        named.append(HIGHLIGHTED)
        texts.append(f"the other {others}")
    handles = [Line2D([], [], **look(variant)) for variant in named]
    title = fitted(title, 36) + ("\n(best first)" if title else "best first")
    place = {"loc": "outside right upper", "frameon": False, "alignment": "left", "handlelength": 3}
    figure.legend(handles, texts, title=title, **place)


def level_ticks(axes: Axes, names: Sequence[str]) -> None:
    """A factor's levels along the horizontal axis."""
    upright = sum(map(len, names)) <= 22
    style = {} if upright else {"rotation": 40, "ha": "right", "rotation_mode": "anchor"}
    axes.set_xticks(range(len(names)), names, fontsize=9 if len(names) <= 10 else 6.5, **style)
    axes.set_xlim(-0.5, len(names) - 0.5)


class Page:
    """A figure whose parts stand at places in inches, from the left and from the top."""

    def __init__(self, width: float, height: float, dpi: int = DPI) -> None:
        self.width, self.height = width, height
        self.figure = Figure(figsize=(width, height), dpi=dpi)

    def axes(self, x: float, y: float, width: float, height: float) -> Axes:
        """Axes without ticks."""
        at = x / self.width, 1 - (y + height) / self.height, width / self.width, height / self.height
        axes = self.figure.add_axes(at)
        axes.set(xticks=[], yticks=[])
        return axes

    def pictures(
        self, places: Iterable[tuple[float, float, float]], images: Iterable[Any], **style: Any
    ) -> None:
        """Square images with frames, each at its place: from the left, from the top, and its side.

        All are in one pair of axes over the whole page: axes of its own for each take several times as long.
        """
        axes = self.figure.add_axes((0, 0, 1, 1))
        axes.set(xlim=(0, self.width), ylim=(self.height, 0), autoscale_on=False)
        axes.set_axis_off()
        self.figure.suppressComposite = True  # vector graphics keep their pixels
        frames = []
        for (x, y, side), image in zip(places, images, strict=True):
            axes.imshow(image, extent=(x, x + side, y + side, y), aspect="auto", **style)
            frames.append(Rectangle((x, y), side, side))
        axes.add_collection(PatchCollection(frames, facecolor="none", edgecolor="black", linewidth=0.8))

    def write(self, x: float, y: float, text: str, **style: Any) -> None:
        """Text below this height."""
        self.figure.text(x / self.width, 1 - y / self.height, text, va="top", **style)
