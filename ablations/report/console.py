"""A report's results and verdicts as small tables of plain text, on a terminal no wider than that and in colour."""

import os
import re
import shutil
import sys
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ablations.report.text import plain

if TYPE_CHECKING:
    from ablations.report.analysis import Analysis

MOST_ROWS = 40
SHOWN = ("factor", "variant", "against", "verdict", "seeds", "difference", "95 % interval", "seeds needed")
"""Of the verdict table."""
SHORT = {"seeds": "n", "seeds needed": "needs"}

# Blue and orange are told apart by everybody; what is open is dim.
COLOURS = {
    **dict.fromkeys(("better", "supported"), "34;1"),
    **dict.fromkeys(("worse", "refuted"), "33;1"),
    **dict.fromkeys(("inconclusive", "too few seeds"), "2"),
    "failed": "31;1",
}


def console(analysis: "Analysis") -> str:
    """The results, where runs were compared the verdicts, and the answers to claims."""
    from ablations.report.tables import measures, result_rows, verdict_rows

    head, rows = result_rows(analysis)
    factors = len(analysis.study.factors)
    text = _aligned((*head[:factors], *measures(analysis).values()), rows, factors, left=factors)
    if len(analysis.effects):
        head, rows = verdict_rows(analysis)
        at = [head.index(name) for name in SHOWN]
        ours = analysis.effects["metric"] == analysis.study.metric
        rows = [tuple(row[i] for i in at) for row, own in zip(rows, ours, strict=True) if own]
        text += "\n\n" + _aligned([SHORT.get(name, name) for name in SHOWN], rows, 3, left=4)
    if analysis.answers:
        text += "\n"
    for each in analysis.answers:
        claim = textwrap.shorten(plain(each.claim.text), max(_width() - 30, 40), placeholder=" …")
        text += f"\n{claim.removesuffix('.')}: {each.finding}"
    return text


def _aligned(head: Sequence[str], rows: Sequence[Sequence[str]], names: int, left: int) -> str:
    """Plain text; the first `names` columns are cut where it would be too wide, the first `left` lean left."""
    lines = [[plain(cell) for cell in line] for line in (head, *rows[:MOST_ROWS])]
    widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
    while sum(widths) + 2 * (len(widths) - 1) > _width() and max(widths[:names], default=0) > 4:
        widths[widths.index(max(widths[:names]))] -= 1
    text = ["  ".join(_fit(cell, widths[i], i >= left) for i, cell in enumerate(line)) for line in lines]
    if len(rows) > MOST_ROWS:
        text.append(f"… and {len(rows) - MOST_ROWS} more rows in the report")
    return "\n".join(line.rstrip()[: _width()] for line in text)


def _width() -> int:
    """Of the terminal; who reads a file or a pipe has no end of lines."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else 10_000


def _fit(cell: str, width: int, right: bool) -> str:
    cell = cell if len(cell) <= width else cell[: width - 1] + "…"
    return cell.rjust(width) if right else cell.ljust(width)


def coloured(text: str) -> str:
    """The text with its verdicts in colour, on a terminal that wants colours (NO_COLOR is not set)."""
    if not sys.stdout.isatty() or os.environ.get("NO_COLOR"):
        return text
    words = "|".join(map(re.escape, COLOURS))
    return re.sub(rf"\b({words})\b", lambda found: f"\x1b[{COLOURS[found[0]]}m{found[0]}\x1b[0m", text)
