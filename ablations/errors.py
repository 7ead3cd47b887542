"""What the user did wrong, in one line."""

import re
from collections.abc import Iterator

HIDDEN = "***"
_BEFORE_HOST = re.compile(r"""(?<=://)[^\s/"'<>]*@""")
_OF_DATABASE = re.compile(r"""(?<=://)(?<!http://)(?<!https://)[^\s:/@"'<>]*:[^\s@"'<>]*@(?=[^\s/@]*/)""")
_IN_QUERY = re.compile(
    r"""([?&;](?:user(?:name)?|pass(?:word|wd)?|pwd|sslpassword|(?:access_?|auth_?)?token|secret|api_?key)=)"""
    r"""[^&;\s"'`<>]*""",
    re.IGNORECASE,
)


def masked(text: str) -> str:
    """A text with `***` for users and passwords in its addresses: `http://***@host`, `…?password=***`."""
    if "://" not in text:
        return text
    for pattern in (_BEFORE_HOST, _OF_DATABASE):
        text = pattern.sub(f"{HIDDEN}@", text)
    return _IN_QUERY.sub(rf"\1{HIDDEN}", text)


class PlainError(Exception):
    """An error whose one-line message says all that its reader needs to know: no traceback is wanted."""

    def __str__(self) -> str:
        return masked(super().__str__())


class InputError(PlainError, ValueError):
    """What the user gave cannot be used. The message is one line: what, where, what is accepted."""


def printable(text: object) -> str:
    """Text or a file's name from outside as it can be shown: on one line, what has no glyph as an escape,
    without passwords."""
    shown = masked(str(text))
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in shown)


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
        if key := _unknown_key(error):
            return f"{key}: there is no such key; `python run.py --help` lists those that exist"
        return printable(" ".join(text.split()))
    return f"{type(error).__name__}: {printable(' '.join(str(error).split()))}"


def foreseen(error: BaseException) -> bool:
    """Whether `error` says all that its user needs to know, so that no traceback is wanted."""
    by_hydra = type(error).__module__.startswith(("hydra.", "omegaconf."))
    return by_hydra or any(isinstance(cause, PlainError) for cause in _causes(error))


def is_bad_input(error: BaseException) -> bool:
    """Whether what the user gave is what went wrong; Hydra raises errors of its own from those of what it builds."""
    return bool(_unknown_key(error)) or any(isinstance(cause, InputError) for cause in _causes(error))


def _unknown_key(error: BaseException) -> str | None:
    """The key that the configuration, or the class which Hydra builds of it, does not have, by Hydra's own words."""
    text = f"{error} {error.__cause__ or ''}"
    if not type(error).__module__.startswith(("hydra.", "omegaconf.")):
        return None
    if found := re.search(r"unexpected keyword argument '(.+?)'.*?full_key: (\S+)", text, re.DOTALL):
        return f"{found[2]}.{found[1]}"
    found = re.search(r"Could not override '(.+?)'", text)
    return found and found[1]


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__
