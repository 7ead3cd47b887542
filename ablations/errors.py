"""What the user did wrong, in one line."""

import re
from collections.abc import Iterator


class PlainError(Exception):
    """An error whose one-line message says all that its reader needs to know: no traceback is wanted."""


class InputError(PlainError, ValueError):
    """What the user gave cannot be used. The message is one line: what, where, what is accepted."""


def printable(text: object) -> str:
    """Text or a file's name from outside as it can be shown: on one line, what has no glyph as an escape."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(text))


def one_line(error: BaseException) -> str:
    """What went wrong in one line, the type of the error first where it was not foreseen."""
    for cause in _causes(error):
        if isinstance(cause, PlainError):
            return printable(" ".join(str(cause).split()))
    text = f"{error} {error.__cause__ or ''}"
    if type(error).__module__.startswith(("hydra.", "omegaconf.")):
        if found := re.search(
            r"Could not find '(.+)/(.*)'\s+Available options in '.+':\s+((?:\t.+\n?)+)", text
        ):
            group, choice, accepted = found.groups()
            return f"{group}={choice}: there is no such choice; accepted: {', '.join(accepted.split())}"
        if found := re.search(r"Could not override '(.+?)'", text):
            return f"{found[1]}: there is no such key; `python run.py --help` lists those that exist"
        return printable(" ".join(text.split()))
    return f"{type(error).__name__}: {printable(' '.join(str(error).split()))}"


def foreseen(error: BaseException) -> bool:
    """Whether `error` says all that its user needs to know, so that no traceback is wanted."""
    by_hydra = type(error).__module__.startswith(("hydra.", "omegaconf."))
    return by_hydra or any(isinstance(cause, PlainError) for cause in _causes(error))


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__
