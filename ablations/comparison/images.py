"""Seeds and images: how far a difference would move with other seeds, and with other test images.

A verdict is about the test images at hand: only the seeds were drawn anew. Where it is known which images each run
read rightly, both can be taken for a sample: the difference in correctness D[s, i] of seed s on image i is the sum of a
mean, an effect of the seed, one of the image and one of both together (crossed random effects).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ablations.comparison import exact
from ablations.comparison.pairs import Comparison
from ablations.comparison.tests import ALPHA

if TYPE_CHECKING:
    from numpy.typing import NDArray

POINTS = {"test/error_pct": -100, "test/accuracy": 1}
"""What one image more that is read rightly, of all of them, changes: metrics that count test images."""

WIDE = ("wide_low", "wide_high", "share_seeds", "share_images")
"""Columns of effects.csv."""
BESIDE_WIDE = ("share_both", "floor", "images")
"""What a report says besides."""

CLOSE = 1e-9  # relative: predictions that give another difference than was logged belong to another result


@dataclass(frozen=True)
class Reading:
    """What a run made of the test images.

    Attributes:
        labels: what tells the images from others: a digest of their labels.
        right: (images,) bool, whether each was read rightly, packed to bits.
        images: how many there are.
    """

    labels: bytes
    right: "NDArray[np.uint8]"
    images: int


@dataclass(frozen=True)
class Crossed:
    """A mean difference over seeds and images that are both taken for a sample.

    Attributes:
        mean: over all of them.
        low: lower end of its 95 % interval for other seeds and other images of the same kind.
        high: the upper one.
        seeds: share of the mean's variance that comes from the seeds alone.
        images: from the images alone: what is left with any number of seeds.
        both: from which seed reads which image.
        floor: half the width that the interval would have with any number of seeds.
    """

    mean: float
    low: float
    high: float
    seeds: float
    images: float
    both: float
    floor: float


def crossed(lead: "NDArray[np.integer]", times: float = 1.0) -> Crossed:
    """The interval over new seeds and new images, and what it owes to each.

    With mean squares MS_s, MS_i and MS_si of the two-way layout without repetition the variance of the mean is
    estimated by (MS_s + MS_i − MS_si) / (S · N), at least 0; Student's t with Satterthwaite's degrees of freedom gives
    the interval. The three parts of that variance are max(MS_s − MS_si, 0), max(MS_i − MS_si, 0) and MS_si.

    Source: F. E. Satterthwaite (1946), Biometrics Bulletin 2(6), 110–114.

    Args:
        lead: (seeds, images), at least 2 each: by how many settings the variant is right more often than the baseline.
        times: what the mean of it is multiplied by.
    """
    from scipy.special import stdtrit

    many_seeds, many_images = lead.shape
    size = many_seeds * many_images
    # In whole numbers of any size, so that nothing is rounded: size times each sum of squares.
    by_seed, by_image = (lead.sum(axis, dtype=np.int64).tolist() for axis in (1, 0))
    whole = sum(by_seed)
    each = size * int(np.square(lead, dtype=np.int64).sum()) - whole**2
    of_seeds = many_seeds * sum(total**2 for total in by_seed) - whole**2
    of_images = many_images * sum(total**2 for total in by_image) - whole**2
    free = many_seeds - 1, many_images - 1, (many_seeds - 1) * (many_images - 1)
    sums = of_seeds, of_images, each - of_seeds - of_images
    seeds, images, both = (total / (size * degrees) for total, degrees in zip(sums, free, strict=True))

    mean, variance = times * whole / size, max(seeds + images - both, 0.0) / size
    parts = max(seeds - both, 0.0), max(images - both, 0.0), both
    if not variance:
        shares = [part / sum(parts) if sum(parts) else 0.0 for part in parts]
        return Crossed(mean, mean, mean, *shares, 0.0)
    certainty = seeds**2 / free[0] + images**2 / free[1] + both**2 / free[2]
    degrees = (size * variance) ** 2 / certainty
    half = float(stdtrit(degrees, 1 - ALPHA / 2)) * math.sqrt(variance) * abs(times)
    floor = float(stdtrit(free[1], 1 - ALPHA / 2)) * math.sqrt(parts[1] / size) * abs(times)
    return Crossed(mean, mean - half, mean + half, *(part / sum(parts) for part in parts), floor)


def over_seeds_and_images(
    comparisons: Sequence[Comparison], reading: Callable[[str], Reading | None]
) -> pd.DataFrame:
    """For each comparison the interval over seeds and images: columns `WIDE` and `BESIDE_WIDE`.

    Numbers are missing for another metric than those of `POINTS`, and where a run's reading is missing, is of other
    images, or does not give the difference that was logged.

    Args:
        comparisons: of one study.
        reading: of a run, by its id.
    """
    rows = [_row(each, reading) for each in comparisons]
    table = pd.DataFrame(rows, columns=[*WIDE, *BESIDE_WIDE], dtype=float)
    return exact.rounded(table)


def _row(comparison: Comparison, reading: Callable[[str], Reading | None]) -> Mapping[str, float]:
    lead = _lead(comparison, reading)
    if lead is None:
        return {}
    settings = len(comparison.signs) / 2 ** len(comparison.factors)
    times = POINTS[comparison.metric] / settings
    logged = np.array(comparison.differences)
    if not np.allclose(times * lead.mean(axis=1), logged, rtol=CLOSE, atol=CLOSE * abs(times)):
        return {}
    found = crossed(lead, times)
    shares = {"share_seeds": found.seeds, "share_images": found.images, "share_both": found.both}
    ends = {"wide_low": found.low, "wide_high": found.high, "floor": found.floor}
    return ends | shares | {"images": lead.shape[1]}


def _lead(comparison: Comparison, reading: Callable[[str], Reading | None]) -> "NDArray[np.int32] | None":
    """(seeds, images): in how many settings more the variant reads an image rightly; None where that is not known."""
    if comparison.metric not in POINTS or len(comparison.seeds) < 2:
        return None
    rows, kinds = [], set()
    for run_ids in comparison.run_ids:
        row: NDArray[np.int32] | int = 0
        for sign, run_id in zip(comparison.signs, run_ids, strict=True):
            found = reading(run_id)
            if found is None:
                return None
            kinds.add((found.labels, found.images))
            if len(kinds) > 1 or found.images < 2:
                return None
            row = row + sign * np.unpackbits(found.right, count=found.images).astype(np.int32)
        rows.append(row)
    return np.stack(rows)
