"""A line over the bar that may stand on a terminal."""

import sys

CLEAR_LINE = "\r\x1b[K"


def say(line: str) -> None:
    """Print a line; on a terminal over the bar that may stand there, which whoever drew it draws again."""
    print((CLEAR_LINE if sys.stdout.isatty() else "") + line, flush=True)
