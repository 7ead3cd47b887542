"""Test images that two variants read differently."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ablations.plots.axes import Page, fitted
from ablations.plots.style import PIXELS

DISAGREEMENTS = 24
ACROSS = 8
# In inches: an image, what stands below it, above each side's images, above all, at the left and the right.
CELL, CAPTION, HEADING, TOP, EDGE = 0.98, 0.62, 0.42, 0.56, 0.25
BELOW = 0.03  # between an image and what stands below it


@dataclass(frozen=True)
class Disagreement:
    """On which test images two variants disagree.

    Attributes:
        images: the clearest cases, one row each, those that the first variant reads better before the others:
            `index` (in the test set), `label`, `first`, `second` (what most runs of each variant read, the lower
            class where runs are divided equally), `first_right`, `second_right` (runs that read it rightly).
        pixels: of these, uint8 (images, y, x).
        runs: of the first and of the second variant.
        better: how many test images the first and the second variant read rightly in a larger share of its runs.
        total: test images.
    """

    images: pd.DataFrame
    pixels: NDArray[np.uint8]
    runs: tuple[int, int]
    better: tuple[int, int]
    total: int


def disagreement(
    first: Sequence[Mapping[str, NDArray]], second: Sequence[Mapping[str, NDArray]], most: int = DISAGREEMENTS
) -> Disagreement:
    """Compare what the runs of two variants read, image by image.

    Args:
        first: for each run of one variant the arrays of its `predictions.npz`: `labels` and `predictions` (one for
            each test image), `misread` (indices) and `misread_images` (uint8, their pixels). Whatever two variants
            disagree on was misread by a run, so that these pixels suffice.
        second: the same for the other variant.
        most: how many images to give: half from each direction, where there are so many.

    Raises:
        ValueError: a variant without runs, or runs that were tested on different images.
        KeyError: an array is missing.
    """
    if not first or not second:
        raise ValueError("disagreement: each variant needs a run")
    labels = np.asarray(first[0]["labels"])
    read = [np.array([run["predictions"] for run in runs]) for runs in (first, second)]
    if any(not np.array_equal(run["labels"], labels) for run in (*first, *second)):
        raise ValueError("disagreement: the runs were tested on different images")
    right = [(predictions == labels).sum(axis=0) for predictions in read]
    # In whole numbers, so that equal shares are equal.
    lead = right[0] * len(second) - right[1] * len(first)
    pixels = {
        int(index): image
        for run in (*first, *second)
        for index, image in zip(run["misread"], run["misread_images"], strict=True)
    }
    drawable = np.isin(np.arange(len(labels)), list(pixels))
    sides = [np.flatnonzero(drawable & (sign * lead > 0)) for sign in (1, -1)]
    sides = [side[np.argsort(-np.abs(lead[side]), kind="stable")] for side in sides]
    leading = sides[0][: most - min(len(sides[1]), most // 2)]
    chosen = np.concatenate([leading, sides[1][: most - len(leading)]])
    images = pd.DataFrame({"index": chosen, "label": labels[chosen]}).assign(
        first=[int(np.bincount(read[0][:, i]).argmax()) for i in chosen],
        second=[int(np.bincount(read[1][:, i]).argmax()) for i in chosen],
        first_right=right[0][chosen],
        second_right=right[1][chosen],
    )
    return Disagreement(
        images,
        np.array([pixels[int(i)] for i in chosen], dtype=np.uint8),
        (len(first), len(second)),
        (int((lead > 0).sum()), int((lead < 0).sum())),
        len(labels),
    )


def disagreements(found: Disagreement, names: Sequence[str], classes: Sequence[str] | None = None) -> Figure:
    """The images on which two variants, A and B, disagree: what each reads, and in how many of its runs rightly.

    Args:
        found: with at least one image.
        names: of A and of B.
        classes: the classes' names; their numbers by default.
    """
    lead = found.images["first_right"] * found.runs[1] - found.images["second_right"] * found.runs[0]
    sides = [np.flatnonzero(lead > 0), np.flatnonzero(lead < 0)]
    heights = [-(-len(side) // ACROSS) * (CELL + CAPTION) for side in sides]
    page = Page(ACROSS * CELL + 2 * EDGE, TOP + sum(HEADING + height for height in heights if height))
    for i, (letter, name) in enumerate(zip("AB", names, strict=True)):
        runs = f"{found.runs[i]} run{'s' * (found.runs[i] != 1)}"
        page.write(EDGE, 0.1 + 0.21 * i, f"{letter}: {fitted(name, 60)} ({runs})", fontsize=9)
    y = TOP
    for side, height, count, letter in zip(sides, heights, found.better, "AB", strict=True):
        if not len(side):
            continue
        which = "" if count == len(side) else f"; the clearest {len(side)}"
        more = f"{letter} is right more often: {count:,} image{'s' * (count != 1)}{which}"
        page.write(EDGE, y + 0.12, more, fontsize=9, weight="bold")
        at = [divmod(i, ACROSS) for i in range(len(side))]
        places = [
            (EDGE + column * CELL, y + HEADING + row * (CELL + CAPTION), 0.86 * CELL) for row, column in at
        ]
        page.pictures(places, found.pixels[side], cmap=PIXELS, vmin=0, vmax=255)
        for place, (x, down, size) in zip(side, places, strict=True):
            image = found.images.iloc[place]
            shown = str if classes is None else lambda label: fitted(classes[int(label)], 7)
            read = [f"true {shown(image['label'])}"]
            for who, name, of in zip("AB", ("first", "second"), found.runs, strict=True):
                read.append(f"{who} {shown(image[name])} · {image[f'{name}_right']}/{of}")
            page.write(x, down + size + BELOW, "\n".join(read), fontsize=7.5)
        y += HEADING + height
    return page.figure
