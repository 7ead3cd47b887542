"""Does a report still follow from its runs? Recomputed from the store, or from its own `runs.csv`."""

import math
import re
from collections.abc import Mapping
from itertools import zip_longest
from pathlib import Path

from ablations.commands import many
from ablations.errors import InputError, PlainError, one_line
from ablations.report.again import Kept, kept, recomputed
from ablations.report.compile import TABLES, TRIALS, Compiled, compiled_from, home_of
from ablations.tracking.reader import Reader
from ablations.tracking.reports import PAGE
from ablations.tracking.store import Store

NUMBER = re.compile(r"[-+]?\d+(?:,\d{3})*(?:\.\d+)?(?:e[-+]?\d+)?", re.IGNORECASE)
PRECISE = re.compile(r"[-+]?\d+(?:\.\d+(?:e[-+]\d+)?|e[-+]\d+)")
"""A number with decimals; identities, which are made of digits and letters, have neither a point nor a sign."""
CLOSE = 1e-9  # relative
WRITTEN = 10  # a number of more characters is in full precision, one that is shown has fewer


class DoesNotFollow(PlainError):
    """A number of a report is not the one that its runs give."""


def check(name: str | None, store: Store, folder: Path | None = None, home: Path | None = None) -> str:
    """Recompute every number of a report; what was checked, in one sentence.

    Args:
        name: the report's.
        store: where its runs may be.
        folder: where reports are kept.
        home: the report's own folder, instead of the name.

    Raises:
        InputError: there is no such report, or one without the files that a check needs.
        DoesNotFollow: with the first number that does not follow.
    """
    if name is None and home is None:
        raise InputError("--check: the name of a report is expected")
    home = home or home_of(name, folder)
    there = kept(home)
    try:
        again, source = _recomputed(there, store)
    except InputError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise InputError(
            f"{home / 'report.json'}: does not fit its runs ({one_line(error)}); compile the report again"
        ) from error
    _compare(there.files, again, home)
    _require_page(home, there)
    trials = "" if there.tuning is None else f" {TRIALS},"
    return (
        f"{home.name}: README.md, runs.csv,{trials} effects.csv and verdicts.tex follow from {source}: "
        f"{many(len(there.runs), 'run')}, {many(len(again.analysis.effects), 'comparison')}"
    )


def _recomputed(there: Kept, store: Store) -> tuple[Compiled, str]:
    """The report once more, and from what, in words."""
    reader = _reader_of(store, list(there.runs["run_id"]))
    if reader is not None:
        return compiled_from(reader, there.study.name, there.request, there.about["again"]), "the store"
    source = (
        "its runs.csv (the store does not have its runs, so that figures and their captions were not checked)"
    )
    return recomputed(there), source


def _reader_of(store: Store, run_ids: list[str]) -> Reader | None:
    """The store, where it has all these runs."""
    try:
        reader = Reader(store)
        there = set(reader.runs()["run_id"])
    except InputError:
        return None
    return reader if there.issuperset(run_ids) else None


def _compare(written: Mapping[str, str], recomputed: Compiled, home: Path) -> None:
    """Tables first, for a wrong cell there explains a wrong sentence."""
    order = ("runs.csv", *TABLES, "README.md", "report.json")
    for name in order:
        ours, again = written.get(name), recomputed.files.get(name)
        if ours == again:
            continue
        if ours is None or again is None:
            what = "missing" if ours is None else "no run gives such a table"
            raise DoesNotFollow(f"{home / name}: {what}")
        pairs = zip_longest(ours.splitlines(), again.splitlines(), fillvalue="")
        for line, (there, expected) in enumerate(pairs, 1):
            if there != expected and not _same(there, expected):
                raise DoesNotFollow(f"{home / name}, line {line}: {_difference(there, expected, name)}")


def _require_page(home: Path, there: Kept) -> None:
    """Raise DoesNotFollow where the report is a page, too, and that is not what its README.md, figures and tables
    make."""
    from ablations.report.page import page

    if (home / PAGE).exists() and (home / PAGE).read_text(encoding="utf-8") != page(home, there.study.name):
        raise DoesNotFollow(f"{home / PAGE}: it is not made of this README.md; compile it again with --html")


def _same(there: str, expected: str) -> bool:
    """Whether two lines differ in the last digits of long numbers alone, which another machine rounds otherwise."""
    if PRECISE.split(there) != PRECISE.split(expected):
        return False
    pairs = zip(PRECISE.findall(there), PRECISE.findall(expected), strict=True)
    return all(ours == again or _close(ours, again) for ours, again in pairs)


def _close(ours: str, again: str) -> bool:
    """Whether two numbers are the same, one of them written with as many digits as a float may need."""
    there, expected = (float(number.replace(",", "")) for number in (ours, again))
    return max(len(ours), len(again)) > WRITTEN and math.isclose(there, expected, rel_tol=CLOSE)


def _difference(there: str, expected: str, name: str) -> str:
    """The first number in which two lines differ, else the first words."""
    if name.endswith(".csv"):  # where commas part no thousands
        there, expected = there.replace(",", " "), expected.replace(",", " ")
    for ours, again in zip_longest(NUMBER.findall(there), NUMBER.findall(expected)):
        if ours != again and not (ours and again and "." in ours + again and _close(ours, again)):
            return f"{ours or 'a number that is missing'} does not follow; recomputed: {again or 'nothing'}"
    return f"{there[:80]!r} does not follow; recomputed: {expected[:80]!r}"
