"""Numbers that are equal are equal, however they are spelled: MLflow keeps params as text."""

import re
from collections.abc import Hashable, Iterable
from decimal import Decimal, InvalidOperation

NUMBER = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d{1,6})?\s*", re.IGNORECASE | re.ASCII)
PLAIN_CHARACTERS = 12
"""A number that needs more of them without an exponent is shown with one."""


def exact(text: str) -> Hashable:
    """What two texts that are the same number have in common, to the last digit; other texts as they are.

    Numbers are finite and decimal: `1`, `1.0`, `01`, `1e0` are one. NaN and infinities are texts.
    """
    if NUMBER.fullmatch(text) is None:
        return text
    try:
        return Decimal(text.strip())
    except InvalidOperation:  # an exponent that no number has
        return text


def is_number(text: str) -> bool:
    """Whether a text is a finite number."""
    return isinstance(exact(text), Decimal)


def same(text: str, other: str) -> bool:
    """Whether two texts are equal, as numbers where both are."""
    return text == other or exact(text) == exact(other)


def respelled(texts: Iterable[str]) -> dict[str, str]:
    """For each text of a number that comes in several spellings the one that stands for all of them.

    That is the shortest, one without an exponent and with a digit before its point where it has room.
    """
    spellings: dict[Hashable, set[str]] = {}
    for text in set(texts):
        spellings.setdefault(exact(text), set()).add(text)
    return {text: min(of, key=_awkward) for of in spellings.values() if len(of) > 1 for text in of}


def _awkward(text: str) -> tuple[bool, bool, bool, int, str]:
    bare = text.lstrip("+-").startswith(".")
    return len(text) > PLAIN_CHARACTERS, "e" in text.lower(), bare, len(text), text
