"""A report's results and verdicts as small tables of plain text, as wide as the terminal, and there in colour."""

import os
import re
import sys
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ablations.commands import columns, shortened
from ablations.report.escaping import crossed, plain, unmarked

if TYPE_CHECKING:
    from ablations.report.analysis import Analysis

MOST_ROWS = 40
NAME_WIDTH = 12
"""Of a factor or a level where it is shortened; columns of numbers go before any is shorter."""

SHOWN = ("factor", "variant", "against", "verdict", "difference", "95 % interval", "seeds")
"""Of the verdict table."""
SHORT = {"seeds": "n"}
SPARE = ("seeds", "95 % interval", "against")
"""What the verdict table does without where the terminal is narrow, first the first; the report has all of it."""

# Blue and orange are told apart by everybody; what is open is dim.
COLOURS = {
    **dict.fromkeys(("better", "supported"), "34;1"),
    **dict.fromkeys(("worse", "refuted"), "33;1"),
    **dict.fromkeys(("inconclusive", "too few seeds", "no result"), "2"),
    "confounded": "35;1",
    "failed": "31;1",
}


def console(analysis: "Analysis") -> str:
    """The answer, the results, where runs were compared the verdicts, and the answers to claims."""
    from ablations.report import blocks, progress
    from ablations.report.answer import answer
    from ablations.report.tables import measures, result_rows, verdict_rows

    width = in_terminal()
    head, rows = result_rows(analysis)
    factors = len(analysis.study.factors)
    head = (*head[:factors], *measures(analysis).values())
    said = [*progress.head(analysis), *answer(analysis)]
    text = "\n".join(_filled(unmarked(sentence), width) for sentence in said) + "\n\n"
    text += aligned(head, rows, factors, factors, range(len(head) - 1, factors + 1, -1), width)
    if len(analysis.effects):
        ours = analysis.effects["metric"] == analysis.study.metric
        rows = [row for row, own in zip(verdict_rows(analysis, SHOWN)[1], ours, strict=True) if own]
        spare = [*([0] if len({row[0] for row in rows}) == 1 else []), *map(SHOWN.index, SPARE)]
        text += "\n\n" + aligned([SHORT.get(name, name) for name in SHOWN], rows, 3, 4, spare, width)
    if len(analysis.effects) or analysis.ranks is not None:
        text += f"\n\n{direction(analysis)}"
        for line in (*blocks.in_console(analysis), *analysis.remarks):
            text += f"\n{_filled(line, width)}"
    if analysis.answers:
        text += "\n"
    for each in analysis.answers:
        said = f"{plain(each.claim.text).removesuffix('.')}: {each.finding}"
        text += f"\n{_filled(said, width)}"
    return text


def in_short(analysis: "Analysis", with_table: bool) -> list[str]:
    """How far the study is: a line, and one for each comparison."""
    from ablations.report import progress

    first = [unmarked(sentence) for sentence in progress.head(analysis)][:1]
    return [*first, *(standings(analysis) if with_table else ())]


def standings(analysis: "Analysis") -> list[str]:
    """One line for each comparison, below a head, as wide as the terminal: for the console after each round."""
    from ablations.report import progress
    from ablations.report.numbers import forms

    form, rows = forms(analysis), []
    effects = analysis.all_effects.to_dict("records")
    for each, row in zip(progress.prospects_so_far(analysis), effects, strict=True):
        shown = form[row["metric"]]
        ends = shown.ends(row["ci_low"], row["ci_high"]) if row["n"] else ""
        difference = shown.difference(row["mean_diff"]) + (f" [{ends}]" if ends else "")
        factor = crossed(row["factors"]) + (f" at {row['at']}" if row["at"] else "")
        names = factor, crossed(row["variant"]), crossed(row["baseline"])
        rows.append((*names, progress.state(each, row["verdict"]), str(row["n"]), difference))
    columns = ("factor", "variant", "against", "state", "seeds", "difference [95 % interval]")
    return aligned(columns, rows, 3, 4, (5, 2), in_terminal()).splitlines()


def in_terminal() -> int | None:
    """How wide text may be on stdout; None where it is no terminal."""
    return columns(sys.stdout)


def _filled(text: str, width: int | None) -> str:
    return textwrap.fill(text, width, subsequent_indent="  ") if width else text


def direction(analysis: "Analysis") -> str:
    """Which values of the outcome are better, and who says so."""
    study = analysis.study
    said = "by its name" if study.smaller_is_better is None else "as was said"
    return f"{plain(study.label)}: {'smaller' if study.smaller else 'larger'} is better ({said})"


def aligned(
    head: Sequence[str],
    rows: Sequence[Sequence[str]],
    names: int,
    left: int,
    spare: Sequence[int],
    width: int | None,
) -> str:
    """Plain text of at most `width` columns, of any for None.

    The first `left` columns lean left. Where it would be too wide, columns of `spare` go one by one and the first
    `names` are shortened.
    """
    lines = [[plain(cell) for cell in line] for line in (head, *rows[:MOST_ROWS])]
    widths = {i: max(map(len, cells)) for i, cells in enumerate(zip(*lines, strict=True))}

    def excess() -> int:
        return sum(widths.values()) + 2 * (len(widths) - 1) - (width or sys.maxsize)

    for column in spare:
        if excess() <= sum(max(widths[i] - NAME_WIDTH, 0) for i in widths if i < names):
            break
        del widths[column]
    while excess() > 0 and (longest := max((widths[i], i) for i in widths if i < names)) > (4,):
        widths[longest[1]] -= 1
    text = ["  ".join(_fit(line[i], widths[i], i >= left) for i in widths) for line in lines]
    if len(rows) > MOST_ROWS:
        text.append(f"… and {len(rows) - MOST_ROWS} more rows in the report")
    return "\n".join(line.rstrip() for line in text)


def _fit(cell: str, width: int, right: bool) -> str:
    cell = shortened(cell, width)
    return cell.rjust(width) if right else cell.ljust(width)


def coloured(text: str) -> str:
    """The text with its verdicts in colour, on a terminal that wants colours (NO_COLOR is not set)."""
    if not sys.stdout.isatty() or os.environ.get("NO_COLOR"):
        return text
    words = "|".join(map(re.escape, COLOURS))
    return re.sub(rf"\b({words})\b", lambda found: f"\x1b[{COLOURS[found[0]]}m{found[0]}\x1b[0m", text)
