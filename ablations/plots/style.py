"""How figures look: colours, markers, how much fits; and how they are written to files."""

import logging
import os
import sys
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

DPI = 130
COLOURS = 256
"""Of a report's figures."""
FEWEST_FOR_TWO = 4
"""Figures that are worth a process more."""

# Seaborn's "colorblind", without its yellow (too light for a line) and its grey (which means: the others).
PALETTE = ("#0173b2", "#de8f05", "#029e73", "#d55e00", "#cc78bc", "#ca9161", "#fbafe4", "#56b4e9")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
DASHES = ("-", "--", "-.", ":")
OTHERS = "#b8b8b8"
"""Variants beyond those in colour."""
HIGHLIGHTED = len(PALETTE)
"""So many variants are in colour."""

BASELINE = "black"
"""The line at which a variant does as the baseline does."""
MARGIN = "#d9e6f2"
"""Differences that do not matter."""
MEAN = "black"
NOT_RUN = {"hatch": "////", "facecolor": "white", "edgecolor": "#a0a0a0", "lw": 0}
"""A cell of a grid without a finished run: no colour of the scale."""

# Colour, marker and whether it is filled: no verdict is told by its colour alone.
BETTER = ("#029e73", "^", True)
WORSE = ("#d55e00", "v", True)
NO_DIFFERENCE = ("#0173b2", "s", True)
INCONCLUSIVE = ("#6e6e6e", "o", True)
TOO_FEW = ("#6e6e6e", "o", False)
CONFOUNDED = ("#cc78bc", "X", True)

COUNTS, VALUES, WEIGHTS, PIXELS = "Blues", "viridis", "RdBu_r", "gray"
"""Colour maps."""


def look(variant: int, marked: bool = True) -> dict[str, Any]:
    """Colour, dash and marker of a variant, the same in every figure."""
    if variant >= HIGHLIGHTED:
        return {"color": OTHERS, "marker": ".", "linestyle": "-"}
    return {
        "color": PALETTE[variant],
        "linestyle": DASHES[variant % len(DASHES)],
        "marker": MARKERS[variant] if marked else None,
        "markersize": 5,
    }


def save_vectors(figure: Figure, path: Path, formats: Sequence[str]) -> None:
    """Write the figure as vector graphics beside the PNG of this path; the same figure gives the same bytes."""
    from matplotlib import rc_context

    logging.getLogger("fontTools").setLevel(logging.WARNING)  # it logs each table of each font
    undated = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}
    with rc_context({"svg.hashsalt": path.stem, "pdf.fonttype": 42}):  # fonts that journals accept
        for each in formats:
            figure.savefig(path.with_suffix(f".{each}"), format=each, metadata=undated[each])


def save(figure: Figure, path: str | Path | BinaryIO, colours: int | None = None) -> None:
    """Write the figure as PNG; the same figure gives the same bytes.

    Args:
        figure: what to write.
        path: the file, or what takes its bytes.
        colours: reduce to so many colours (at most 256), for a file of a third the size in 0.1 s more.
    """
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    image = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    if colours is not None:
        image = image.quantize(colours, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    image.save(path, format="PNG", dpi=(figure.dpi, figure.dpi), optimize=colours is not None)


def save_all(figures: Mapping[Path, Callable[[], Figure]], formats: Sequence[str]) -> None:
    """Draw and write figures as PNG, reduced to `COLOURS`, and in further formats beside that.

    Where processes are copied (Linux) and nothing else goes on in this one, a copy of it draws every other figure.
    """
    paths = list(figures)
    copies = sys.platform == "linux" and threading.active_count() == 1 and len(os.sched_getaffinity(0)) > 1
    theirs = paths[1::2] if copies and len(paths) >= FEWEST_FOR_TWO else []
    with ExitStack() as stack:
        if theirs:
            copy = stack.enter_context(_copied(partial(_save_each, figures, theirs, formats)))
        _save_each(figures, [path for path in paths if path not in theirs], formats)
        if theirs:
            copy.join()
            if copy.exitcode:  # what went wrong there goes wrong here again, and is raised
                _save_each(figures, theirs, formats)


def _save_each(
    figures: Mapping[Path, Callable[[], Figure]], paths: Iterable[Path], formats: Sequence[str]
) -> None:
    for path in paths:
        figure = figures[path]()
        save(figure, path, colours=COLOURS)
        save_vectors(figure, path, formats)


@contextmanager
def _copied(work: Callable[[], None]) -> Iterator[BaseProcess]:
    """A copy of this process that does some work and prints nothing; it is ended with the block."""

    def silent() -> None:
        with open(os.devnull, "w") as nowhere:
            sys.stderr = nowhere
            work()

    process = get_context("fork").Process(target=silent, daemon=True)
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):  # of OpenBLAS's idle threads
        process.start()
    try:
        yield process
    finally:
        process.terminate()
        process.join()
