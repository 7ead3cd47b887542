"""Which pixels of a picture are the digit: what is ground, what a frame, what dust, and what belongs together."""

import numpy as np

from ablations.errors import InputError

ENOUGH = 800  # pixels: a digit may be small in its picture
LEAST_CONTRAST = 24  # of 255: less is paper alone, as cameras and scanners see it
FAINTEST = 0.25  # of the darkest ink: what is fainter does not count for the digit's extent
SPECK = 0.04  # of all ink: a separate spot that has less is none of the digit's strokes
THIN = 0.1  # of the picture: a frame is thinner
TOUCHED = 0.7  # of the contrast: the edge varies by more where ink touches it
INSIDE = 0.35  # of a frame's height: the digit in it is at least as high
LEAST_INSIDE = 0.08  # of a frame's ink: less is a hole with some dust
GAP = 0.3  # of the height: spots as near as this are one stroke

NOTHING = "nothing to be seen but the ground; accepted: a digit that stands out from it"

EIGHT = np.ones((3, 3))
"""Which pixels are neighbours, for scipy: those at the corners, too."""


def find_ink(grey: np.ndarray) -> np.ndarray:
    """How much of the digit's ink there is, from 0 for the ground to 1 for the strongest.

    `grey`: uint8 (height, width), at least 1×1. The result is of its size, or smaller for a large one and without a
    frame at its border. Raises InputError where there is nothing to be seen.
    """
    ink = _without_frames(_contrast(_without_border(_reduced(grey))))
    return _without_specks(_joined(ink))


def side_by_side(ink: np.ndarray) -> bool:
    """Whether two of the separate strokes are large, and each has its rows or its columns for itself."""
    from scipy import ndimage

    strokes, boxes = _strokes(ink)
    amounts = ndimage.sum_labels(ink, strokes, np.arange(1, len(boxes) + 1))
    sizes, whole = np.ptp(boxes, axis=2), np.ptp(boxes, axis=(0, 2))
    large = (sizes[:, 0] >= 0.3 * whole[0]) & (sizes.max(axis=1) >= 0.4 * whole[0])
    chosen = boxes[large & (amounts >= 0.08 * amounts.sum())]
    return any(_apart(one, other) for at, one in enumerate(chosen) for other in chosen[:at])


def _apart(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether two boxes have rows or columns of their own: they share at most a fifth of the smaller one's."""
    shared = np.minimum(one[:, 1], other[:, 1]) - np.maximum(one[:, 0], other[:, 0])
    return bool((shared <= 0.2 * np.minimum(np.ptp(one, axis=1), np.ptp(other, axis=1))).any())


def _reduced(grey: np.ndarray) -> np.ndarray:
    """The picture with its larger side at most twice ENOUGH, which saves time and memory."""
    from PIL import Image

    factor = max(1, max(grey.shape) // ENOUGH)
    return np.asarray(Image.fromarray(grey).reduce(factor))


def _without_border(grey: np.ndarray) -> np.ndarray:
    """The picture without a thin frame of one colour at its very border, as screenshots and cells of forms have it."""
    border = _ring(grey, 0)
    level, paper = np.median(border), np.median(grey)
    if np.mean(abs(border - level) < LEAST_CONTRAST) < 0.9 or abs(level - paper) < LEAST_CONTRAST:
        return grey
    for depth in range(1, 1 + max(1, int(THIN * min(grey.shape)))):
        if 2 * depth + 2 >= min(grey.shape):
            break
        ring = _ring(grey, depth)
        if np.mean(abs(ring - paper) < LEAST_CONTRAST) > 0.5:
            return grey[depth:-depth, depth:-depth]
    return grey


def _ring(grey: np.ndarray, depth: int) -> np.ndarray:
    """The pixels that are `depth` pixels from the nearest border, as floats."""
    inner = grey[depth : len(grey) - depth, depth : grey.shape[1] - depth]
    return np.concatenate([inner[0], inner[-1], inner[1:-1, 0], inner[1:-1, -1]]).astype(float)


def _contrast(grey: np.ndarray) -> np.ndarray:
    """How much each pixel stands out from the ground, from 0 to 1.

    The ground is what the picture's edge mostly shows, and ink what differs from it most. What the edge itself
    varies by, as noise or shadow, is no ink; where strokes touch the edge, that is what it varies by without them.
    """
    edge = _ring(grey, 0)
    ground = _ground(grey, edge)
    sign = 1 if grey.max() - ground > ground - grey.min() else -1
    strongest = max(sign * (grey.max() - ground), sign * (grey.min() - ground))
    shades = sign * (edge - ground)
    floor = max(0.0, np.percentile(shades, 95))
    if floor > TOUCHED * strongest and strongest >= LEAST_CONTRAST:
        floor = max(0.0, np.percentile(shades[shades < strongest / 2], 95))
    ink = np.maximum(sign * (grey - ground) - floor, 0)
    if ink.max() < LEAST_CONTRAST:
        raise InputError(NOTHING)
    return ink / ink.max()


def _ground(grey: np.ndarray, edge: np.ndarray) -> float:
    """The ground's level: the edge's median, unless the digit fills a good part of the edge.

    Then it is, of the two levels that the edge has, the one that there is more of in the picture and its edge.
    """
    middle = (int(grey.min()) + int(grey.max())) / 2
    light = np.mean(edge > middle)
    if not 0.1 < light < 0.9:
        return float(np.median(edge))
    lighter = light + np.mean(grey > middle) > 1
    return float(np.median(edge[(edge > middle) == lighter]))


def _without_frames(ink: np.ndarray) -> np.ndarray:
    """Without what is drawn around the digit: frames, and lines from edge to edge of the picture near its border."""
    strokes, boxes = _strokes(ink)
    sides = np.ptp(boxes, axis=2)
    for number in np.argsort(-sides.prod(axis=1), kind="stable")[:3]:
        stroke = strokes == number + 1
        for inside in (_cell(stroke), _holes(stroke)):
            if _is_digit(ink, inside, stroke & ~inside):
                return _without_frames(np.where(inside, ink, 0) / ink[inside].max())
        if _is_margin(stroke) and ink[~stroke].sum() > LEAST_INSIDE * ink[stroke].sum():
            return _without_frames(np.where(stroke, 0, ink) / ink[~stroke].max())
    return ink


def _strokes(ink: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The separate strokes, numbered from 1 as scipy does; where each begins and ends: (strokes, axes, 2)."""
    from scipy import ndimage

    strokes, _ = ndimage.label(ink > FAINTEST, structure=EIGHT)
    boxes = [[(side.start, side.stop) for side in box] for box in ndimage.find_objects(strokes)]
    return strokes, np.array(boxes)


def _is_digit(ink: np.ndarray, inside: np.ndarray, frame: np.ndarray) -> bool:
    """Whether what is inside a frame is large enough for a digit."""
    found = inside & (ink > FAINTEST)
    if found.sum() <= LEAST_INSIDE * frame.sum():
        return False
    heights = [np.ptp(np.flatnonzero(part.any(axis=1))) + 1 for part in (found, frame)]
    return heights[0] >= INSIDE * heights[1]


def _holes(stroke: np.ndarray) -> np.ndarray:
    """What a stroke encloses."""
    from scipy import ndimage

    spaces, _ = ndimage.label(np.pad(~stroke, 1, constant_values=True))
    return (spaces > 0)[1:-1, 1:-1] & (spaces != spaces[0, 0])[1:-1, 1:-1]


def _cell(stroke: np.ndarray) -> np.ndarray:
    """What lies in the thin upright rectangle that is part of a stroke, as where a digit touches the cell of a form."""
    inside = np.zeros_like(stroke)
    box = [np.flatnonzero(stroke.any(axis=axis)) for axis in (1, 0)]
    lines = [np.flatnonzero(stroke.sum(axis=1 - axis) > 0.7 * len(box[1 - axis])) for axis in (0, 1)]
    if min(map(len, lines)) < 2:
        return inside
    (top, left), (bottom, right) = ([side[end] for side in lines] for end in (0, -1))
    thick = 1 + min(_first_run(side) for found in lines for side in (found, -found[::-1]))
    frame = stroke[top : bottom + 1, left : right + 1]
    if thick <= THIN * min(frame.shape) and _ring(frame, thick).mean() < 0.5:
        inside[top + thick : bottom + 1 - thick, left + thick : right + 1 - thick] = True
    return inside


def _first_run(numbers: np.ndarray) -> int:
    """How many of them, from the first on, follow each other without a gap."""
    return int(np.argmin([*(np.diff(numbers) == 1), False])) + 1


def _is_margin(stroke: np.ndarray) -> bool:
    """Whether a stroke goes from edge to edge of the picture and keeps to its margins."""
    margins = [max(1, int(1.5 * THIN * side)) for side in stroke.shape]
    inner = stroke[margins[0] : -margins[0], margins[1] : -margins[1]]
    ends = [part.any() for part in (stroke[0], stroke[-1], stroke[:, 0], stroke[:, -1])]
    return not inner.any() and ((ends[0] and ends[1]) or (ends[2] and ends[3]))


def _joined(ink: np.ndarray) -> np.ndarray:
    """With the gaps closed where a digit is drawn in dots, dashes or spray."""
    from scipy import ndimage

    spots, boxes = _strokes(ink)
    amounts = ndimage.sum_labels(ink, spots, np.arange(1, len(boxes) + 1))
    rows = np.flatnonzero((spots > 0).any(axis=1))
    height = np.ptp(rows) + 1
    tall = np.ptp(boxes[:, 0], axis=1) > 0.6 * height
    if len(boxes) < 3 or amounts.max() > 0.5 * amounts.sum() or tall.sum() > 1:
        return ink
    room = 2 + int(GAP * height)
    padded = np.pad(ink, room)
    distance = ndimage.distance_transform_edt(padded <= FAINTEST)
    radius = 0.8
    while (radius := 1.25 * radius) <= GAP * height / 2:
        groups, count = ndimage.label(distance <= radius, structure=EIGHT)
        shares = np.sort(ndimage.sum_labels(padded, groups, np.arange(1, count + 1))) / ink.sum()
        if shares[-2:].sum() >= 0.9:
            radius = max(1.6 * radius, min(2.5 * radius, 0.06 * height))  # as wide as strokes are
            closed = ndimage.distance_transform_edt(distance <= radius) > radius
            return np.maximum(ink, closed[room:-room, room:-room])
    return ink


def _without_specks(ink: np.ndarray) -> np.ndarray:
    from scipy import ndimage

    spots, boxes = _strokes(ink)
    amounts = ndimage.sum_labels(ink, spots, np.arange(len(boxes) + 1))
    amounts[0] = np.inf  # the rest: ground, and the faint edges of strokes
    kept = amounts >= SPECK * amounts[1:].sum()
    if amounts[1:][kept[1:]].sum() < 0.5 * amounts[1:].sum():  # it is drawn in specks
        return ink
    return np.where(kept[spots], ink, 0)
