"""What the commands share.

How they end and their `--help`, what they say on a terminal, the words they count with; `signals` has them stop in
order. In come a command's arguments and whatever goes wrong in it, out go lines and an exit code. This room knows
`errors` and `paths`, and is known to all.
"""

import argparse
import atexit
import errno
import gc
import io
import logging
import os
import re
import shlex
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import TextIO

from ablations.commands.signals import exit_code, stoppable
from ablations.errors import InputError, foreseen, masked, one_line, printable
from ablations.ground import is_too_long, settle_terminal
from ablations.ground.paths import CLONE, CONF, HOME, MLRUNS, OWN_CONF

CLEAR_LINE = "\r\x1b[K"
UNWRITABLE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EIO, errno.EBADF}
"""What a disk, a folder or a stream says that takes nothing."""


class _Parser(argparse.ArgumentParser):
    """Names the commands in its --help as they are typed where it runs."""

    def format_help(self) -> str:
        return here(super().format_help())


def command_parser(name: str, description: str, examples: str) -> argparse.ArgumentParser:
    """The parser of `python -m ablations.NAME`; `examples` end its --help line by line as they are written."""
    return _Parser(
        prog=here(f"python -m ablations.{name}"),
        description=description,
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def here(text: str) -> str:
    """A text whose commands are those of a clone, with commands that work where this one runs: `ablations NAME` where
    the code is an installed package."""
    if CLONE:
        return text
    text = re.sub(
        r"python -m ablations\.(\w+)", lambda found: f"ablations {found[1].replace('_', '-')}", text
    )
    return re.sub(r"\b(python )?run\.py\b", "ablations run", text)


def module_command(name: str, *words: str) -> str:
    """`python -m ablations.NAME …`, or `ablations NAME …`, to be pasted into a shell."""
    return " ".join([here(f"python -m ablations.{name}"), *(_typed(masked(word)) for word in words)])


def run_command(words: Sequence[str]) -> str:
    """`python run.py …`, or `ablations run …`, to be pasted into a shell."""
    return f"{here('python run.py')} {shlex.join(map(masked, words))}".rstrip()


def about(name: str, option: Sequence[str] = ()) -> list[str]:
    """The words of a command about a sweep, also one whose name begins with a dash."""
    return [*option, "--", name] if name.startswith("-") else [name, *option]


def _typed(word: str) -> str:
    """A word as a shell takes it, also one with characters that nobody can type."""
    if word.isprintable():
        return shlex.quote(word)
    plain = (
        chr(byte) if chr(byte).isalnum() and byte < 128 else f"\\x{byte:02x}" for byte in os.fsencode(word)
    )
    return f"$'{''.join(plain)}'"


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
    """Print a line, on stdout by default; on a terminal over the bar that may stand there, which is drawn again.

    A stream that is full, or that nobody reads any more, does not stop a training.
    """
    stream = stream or sys.stdout
    with suppress(OSError):
        print((CLEAR_LINE if stream.isatty() else "") + line, file=stream, flush=True)


def say_doing(what: str) -> None:
    """Tell whoever sits at a terminal what takes seconds, so that no screen stays blank; a pipe needs no such line."""
    if sys.stderr.isatty():
        say(f"{what} …", sys.stderr)


class MaskedFormatter(logging.Formatter):
    """Logs lines and tracebacks without passwords; Hydra's configuration names it, too."""

    def format(self, record: logging.LogRecord) -> str:
        return masked(super().format(record))


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
    if (
        os.path.expanduser("~") == "~"
    ):  # no HOME and no entry in passwd, as in some containers; MLflow needs one
        os.environ["HOME"] = str(MLRUNS / "home")
    settle_streams()
    sys.excepthook = _say_unforeseen
    # A million objects of the libraries live as long as the process. Looking through them for cycles again and again
    # takes a tenth of its time, and once more when it ends, after the last line, a second for nothing.
    gc.set_threshold(100_000, 20, 100)
    atexit.register(gc.freeze)
    try:
        with stoppable():
            yield
            sys.stdout.flush()
    except KeyboardInterrupt as stop:
        _exit(interrupted, exit_code(stop))
    except BrokenPipeError:  # the reader of a pipe (`| head`) has gone
        pass
    except Exception as error:
        if isinstance(error, OSError) and error.errno in UNWRITABLE:
            _exit(f"error: cannot write {printable(error.filename or 'the output')}: {error.strerror}", 2)
        if isinstance(error, ModuleNotFoundError) and not (error.name or "ablations").startswith("ablations"):
            _exit(
                f"error: {error.name} is not installed, which this takes; accepted: an installation with all that "
                "pyproject.toml names (docs/install.md)",
                2,
            )
        if not foreseen(error):
            raise
        _exit(f"error: {one_line(error)}", 2)
    finally:
        _flush()


def settle_streams() -> None:
    """Let nothing that stdout and stderr cannot take stop what is going on.

    What stdout's encoding lacks is shown as a question mark; a stream that was closed takes all and shows nothing.
    """
    settle_terminal()
    logging.raiseExceptions = False  # it would show a traceback for each line that it cannot write
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            # In place of the closed one, whose number is the lowest that is free: no other file gets it, here or
            # in a worker.
            nothing = os.open(os.devnull, os.O_RDWR)
            os.set_inheritable(nothing, True)
            setattr(sys, name, open(nothing, mode, closefd=False))  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="replace")


def require_usable_folders() -> None:
    """Raise InputError where Hydra cannot work in the project's folder or the working directory, or not with what the
    user's conf/ adds."""
    try:
        folders = str(CONF.parent), str(HOME), os.getcwd()
    except FileNotFoundError:
        raise InputError("the working directory does not exist any more; change into another one") from None
    if is_too_long(HOME):
        raise InputError(
            f"{printable(HOME)}: this path is too long for what is written below it; accepted: a folder with a shorter "
            "one, or long paths, which Windows can be told to take (docs/windows.md)"
        )
    for folder in folders:
        if "${" in folder:  # a reference to a key, for Hydra
            raise InputError(
                f"{printable(folder)}: Hydra cannot work in a folder with ${{ in its name; rename it"
            )
        if os.fsencode(folder).decode(errors="replace") != folder:
            raise InputError(
                f"{printable(folder)}: Hydra cannot work in a folder whose name is not UTF-8; rename it"
            )
    _require_new_choices()


def _require_new_choices() -> None:
    """Raises InputError for a file of the user's conf/ that would be passed over for the one that is there already."""
    for own in sorted(OWN_CONF.rglob("*.yaml")) if OWN_CONF else ():
        ours = CONF / own.relative_to(OWN_CONF)
        if ours.is_file() and ours.read_bytes() != own.read_bytes():
            raise InputError(
                f"{printable(own)}: there is a choice of this name already, which stays as it is; accepted: another "
                "name, and values of your own on the command line or in an experiment"
            )


def _say_unforeseen(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Python's own traceback, without passwords."""
    with suppress(OSError):
        print(masked("".join(traceback.format_exception(kind, error, trace))), end="", file=sys.stderr)


def _flush() -> None:
    """Show what is not shown yet; where that fails, Python is not to say so once more when it ends."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            with suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _exit(message: str, code: int) -> None:
    with suppress(OSError):
        print(here(message), file=sys.stderr)
    raise SystemExit(code) from None
