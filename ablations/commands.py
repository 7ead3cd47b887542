"""What the commands share: how they end, their `--help`, what they say on a terminal, the words they count with."""

import argparse
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from ablations.errors import foreseen, one_line
from ablations.signals import exit_code, stoppable

CLEAR_LINE = "\r\x1b[K"


def command_parser(name: str, description: str, examples: str) -> argparse.ArgumentParser:
    """The parser of `python -m ablations.NAME`; `examples` end its --help as they are written."""
    return argparse.ArgumentParser(
        prog=f"python -m ablations.{name}",
        description=description,
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def many(count: int, noun: str) -> str:
    """`1 run`, `2 runs`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def duration(seconds: float) -> str:
    """Seconds in words: `4.2 s`, `3 min 20 s`, `2 h 5 min`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def say(line: str, stream: TextIO | None = None) -> None:
    """Print a line, on stdout by default; on a terminal over the bar that may stand there, which is drawn again."""
    stream = stream or sys.stdout
    print((CLEAR_LINE if stream.isatty() else "") + line, file=stream, flush=True)


def say_doing(what: str) -> None:
    """Tell whoever sits at a terminal what takes seconds, so that no screen stays blank; a pipe needs no such line."""
    if sys.stderr.isatty():
        say(f"{what} …", sys.stderr)


class LineHandler(logging.StreamHandler):
    """Logs lines as `say` prints them; Hydra's configuration names it (conf/config.yaml)."""

    def format(self, record: logging.LogRecord) -> str:
        return (CLEAR_LINE if self.stream.isatty() else "") + super().format(record)


def columns(stream: TextIO) -> int | None:
    """How many characters fit on a line of a terminal; None for a file or a pipe, where nothing is cut."""
    try:
        return os.get_terminal_size(stream.fileno()).columns or None if stream.isatty() else None
    except (OSError, ValueError):
        return None


def shortened(text: str, width: int) -> str:
    """The text where it fits, else its beginning and its end, which both tell names apart, around `…`."""
    if len(text) <= width:
        return text
    start, end = width // 2, width - width // 2 - 1
    return f"{text[:start]}…{text[len(text) - end :]}"


@contextmanager
def one_line_errors(interrupted: str = "interrupted") -> Iterator[None]:
    """Turn bad input into one line on stderr and exit code 2, Ctrl-C into exit code 130 and SIGTERM into 143.

    The latter two say `interrupted` and no more. Errors that nobody foresaw go on as they are.
    """
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # Hydra raises its errors here instead of printing them
    try:
        with stoppable():
            yield
    except KeyboardInterrupt as stop:
        _exit(interrupted, exit_code(stop))
    except BrokenPipeError:  # the reader of a pipe (`| head`) has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except Exception as error:
        if not foreseen(error):
            raise
        _exit(f"error: {one_line(error)}", 2)


def _exit(message: str, code: int) -> None:
    print(message, file=sys.stderr)
    raise SystemExit(code) from None
