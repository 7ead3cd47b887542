"""What the commands share: how they end, their `--help`, and the words that they count with."""

import argparse
import os
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from ablations.errors import foreseen, one_line
from ablations.signals import exit_code, stoppable


def command_parser(name: str, description: str, examples: str) -> argparse.ArgumentParser:
    """The parser of `python -m ablations.NAME`; `examples` end its --help as they are written."""
    return argparse.ArgumentParser(
        prog=f"python -m ablations.{name}",
        description=description,
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def module_command(name: str, *words: str) -> str:
    """`python -m ablations.NAME …`, to be pasted into a shell."""
    return shlex.join(["python", "-m", f"ablations.{name}", *words])


def many(count: int, noun: str) -> str:
    """`1 run`, `2 runs`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def duration(seconds: float) -> str:
    """Seconds in words: `4.2 s`, `3 min 20 s`, `2 h 5 min`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


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
