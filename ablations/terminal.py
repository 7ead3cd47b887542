"""What is different where a person looks on: lines over bars, and colours. Elsewhere plain text is printed."""

import os
import re
import sys

CLEAR_LINE = "\r\x1b[K"
# Blue and orange are told apart by everybody; what is open is dim.
COLOURS = {
    "better": "34;1",
    "supported": "34;1",
    "worse": "33;1",
    "refuted": "33;1",
    "failed": "31;1",
    "inconclusive": "2",
    "too few seeds": "2",
}


def say(line: str) -> None:
    """Print a line; on a terminal over the bar that may stand there, which whoever drew it draws again."""
    print((CLEAR_LINE if sys.stdout.isatty() else "") + line, flush=True)


def coloured(text: str) -> str:
    """The text with its verdicts in colour, on a terminal that wants colours (NO_COLOR is not set)."""
    if not sys.stdout.isatty() or os.environ.get("NO_COLOR"):
        return text
    words = "|".join(map(re.escape, COLOURS))
    return re.sub(rf"\b({words})\b", lambda found: f"\x1b[{COLOURS[found[0]]}m{found[0]}\x1b[0m", text)
