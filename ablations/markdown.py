"""Markdown whose content cannot break out of it."""

import re
from collections.abc import Sequence

from ablations.commands import duration, many  # noqa: F401  # reports count in the commands' words

NO_SPREAD = "–"


def number(value: float, digits: int = 2) -> str:
    """A number with so many decimals; a dash where there is none."""
    return f"{value:.{digits}f}" if value == value else NO_SPREAD


def mean_and_sd(mean: float, sd: float) -> str:
    """`1.23 ± 0.04`; a dash for the deviation where one value leaves it unknown."""
    return f"{number(mean)} ± {sd:.2f}" if sd == sd else f"{number(mean)} {NO_SPREAD}"


def grouped(text: str) -> str:
    """A whole number with its thousands parted; other text as it is."""
    return f"{int(text):,}" if text.isdecimal() else text


def plain(text: object) -> str:
    """Text from outside on one line, without control characters; '' for what is missing."""
    if text is None or text != text:
        return ""
    return " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())


def escaped(text: object) -> str:
    """Text from outside, to be read as it is: no markup, no HTML, no cell borders."""
    text = plain(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*\[\]|~$]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9]))", r"\\\1", text)


def code(*lines: str) -> str:
    """A code block that its content cannot close."""
    text = "\n".join(map(plain, lines))
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence}sh\n{text}\n{fence}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]], numeric: int = 0) -> str:
    """A markdown table; the last `numeric` columns are aligned right."""
    rule = ["---"] * (len(head) - numeric) + ["---:"] * numeric
    lines = [[escaped(cell) for cell in head], rule, *([escaped(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
