"""Does a report still follow from its runs? Recomputed from the store, or from its own `runs.csv`."""

import math
import re
from collections.abc import Iterator, Mapping
from itertools import zip_longest
from pathlib import Path

from ablations.commands import many, module_command
from ablations.errors import InputError, PlainError, one_line, printable
from ablations.ground import paths
from ablations.report.again import Kept, fitting, kept, recomputed
from ablations.report.compile import TABLES, TRIALS, Compiled, compiled_from, home_of
from ablations.report.shelf import Shelved, homes
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
    return _checked(home or home_of(name, folder), store)[0]


def check_all(folder: Path | None = None) -> Iterator[str]:
    """Recompute every published report from its own runs, wherever that is done, and the page of all of them; each time
    what was checked or what does not follow, in one sentence.

    Raises:
        InputError: no published report; after all others, with how many are damaged or do not follow.
    """
    from ablations.report.index import pages

    folder = paths.REPORTS if folder is None else folder
    reports, wrong = [], 0
    there = homes(folder)
    for home in there:
        try:
            sentence, kept_there, again = _checked(home, None)
        except PlainError as error:
            wrong += 1
            yield f"{printable(home.name)}: {one_line(error)}"
            continue
        reports.append(Shelved(home.name, home, again.analysis, kept_there.about["figures"]))
        yield sentence
    if wrong:
        found = f"{wrong} of {many(len(there), 'published report')}"
        raise DoesNotFollow(f"{found} {'does' if wrong == 1 else 'do'} not follow, as said above")
    for path, text in pages(reports, folder).items():
        try:
            _compare_lines(path, path.read_text(encoding="utf-8"), text)
        except FileNotFoundError:
            raise DoesNotFollow(f"{path}: missing; {module_command('report', '--index')} writes it") from None
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{path}: cannot be read: {error}") from None
        except DoesNotFollow as error:
            raise DoesNotFollow(f"{error}; {module_command('report', '--index')} writes it anew") from None
        yield f"{path.relative_to(folder.parent)}: follows from {many(len(reports), 'published report')}"


def _checked(home: Path, store: Store | None) -> tuple[str, Kept, Compiled]:
    """What was checked in one sentence, the report as it is kept, and once more; without a store, from its own runs."""
    there = kept(home)
    with fitting(home):
        again, source = _recomputed(there, store)
    _compare(there.files, again, home)
    _require_page(home, there)
    trials = "" if there.tuning is None else f" {TRIALS},"
    sentence = (
        f"{printable(home.name)}: README.md, runs.csv,{trials} effects.csv and verdicts.tex follow from {source}: "
        f"{many(len(there.runs), 'run')}, {many(len(again.analysis.effects), 'comparison')}"
    )
    return sentence, there, again


def _recomputed(there: Kept, store: Store | None) -> tuple[Compiled, str]:
    """The report once more, and from what, in words."""
    if store is None:
        return recomputed(there), "its runs.csv"
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
        _compare_lines(home / name, ours, again)


def _compare_lines(path: Path, ours: str, again: str) -> None:
    """Raise DoesNotFollow with the first line of a file that is another one when it is made again."""
    pairs = zip_longest(ours.splitlines(), again.splitlines(), fillvalue="")
    for line, (there, expected) in enumerate(pairs, 1):
        if there != expected and not _same(there, expected):
            raise DoesNotFollow(f"{path}, line {line}: {_difference(there, expected, path.name)}")


def _require_page(home: Path, there: Kept) -> None:
    """Raise DoesNotFollow where the report is a page, too, and that is not what its README.md, figures and tables
    make."""
    from ablations.report.page import page

    if not (home / PAGE).exists():
        return
    try:
        text = (home / PAGE).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{home / PAGE}: cannot be read: {error}") from None
    if text != page(home, there.study.name):
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
