"""Does a report still follow from its runs? Recomputed from the store, or from its own `runs.csv`."""

import json
import math
import re
from collections.abc import Callable, Mapping
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure

from ablations.commands import many
from ablations.errors import InputError, PlainError, one_line, printable
from ablations.report.analysis import analyse
from ablations.report.compile import Compiled, assembled, compiled_from, home_of
from ablations.report.drawings import Drawing
from ablations.report.escaping import Markdown
from ablations.report.files import runs_from_csv
from ablations.report.request import Request
from ablations.tracking.accepted import by_name, is_level, is_number, is_text, list_of, with_keys
from ablations.tracking.reader import Reader
from ablations.tracking.store import Store
from ablations.tracking.study import Study

if TYPE_CHECKING:
    import pandas as pd

NUMBER = re.compile(r"[-+]?\d+(?:,\d{3})*(?:\.\d+)?(?:e[-+]?\d+)?", re.IGNORECASE)

TOLERANCE = 1e-12
"""By how much of it, or by how much, a number may differ from the recomputed one."""

_TEXTS = list_of(lambda value: isinstance(value, str))
_REQUEST = {
    "experiment": lambda value: is_text(value) or list_of(is_text)(value),
    **dict.fromkeys(("factors", "nuisance"), list_of(is_text)),
    **dict.fromkeys(("metric", "seed_param", "tuned_on"), is_text),
    "baseline": by_name(is_level),
    "margin": lambda value: is_number(value) and value >= 0,
    "smaller_is_better": lambda value: isinstance(value, bool),
}
ACCEPTED: Mapping[str, Callable[[Any], bool]] = {
    "study": lambda value: isinstance(value, dict),
    "metrics": by_name(is_text),
    "left_out": _TEXTS,
    "figures": by_name(
        lambda value: (
            isinstance(value, list) and len(value) == 3 and _TEXTS(value[:2]) and isinstance(value[2], bool)
        )
    ),
    "again": _TEXTS,
    "request": lambda value: with_keys({}, _REQUEST)(value) and value.keys() <= _REQUEST.keys(),
}
"""What each part of report.json may be."""


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
    written = _written(home)
    about, study, request = _about(written["report.json"], home)
    try:
        runs, recomputed, source = _recomputed(written["runs.csv"], about, study, request, store)
    except InputError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise InputError(
            f"{home / 'report.json'}: does not fit its runs ({one_line(error)}); compile the report again"
        ) from error
    _compare(written, recomputed, home)
    return (
        f"{home.name}: README.md, runs.csv, effects.csv and verdicts.tex follow from {source}: "
        f"{many(len(runs), 'run')}, {many(len(recomputed.analysis.effects), 'comparison')}"
    )


def _recomputed(
    csv: str, about: Mapping[str, Any], study: Study, request: Request, store: Store
) -> "tuple[pd.DataFrame, Compiled, str]":
    """The runs of a report, the report once more, and what of, in words."""
    runs = runs_from_csv(csv, study, about["metrics"])
    reader = _reader_of(store, list(runs["run_id"]))
    if reader is not None:
        return runs, compiled_from(reader, study.name, request, about["again"]), "the store"
    analysis = analyse(study, runs, about["left_out"], strict=False)
    # Without the store nothing can be drawn; headings and captions are taken as they are.
    kept = [
        Drawing(stem, Markdown(heading), Markdown(caption), Figure() if drawn else None)
        for stem, (heading, caption, drawn) in about["figures"].items()
    ]
    source = (
        "its runs.csv (the store does not have its runs, so that figures and their captions were not checked)"
    )
    return runs, assembled(analysis, kept, about["again"], request), source


def _written(home: Path) -> dict[str, str]:
    if not home.is_dir():
        there = sorted(path.parent.name for path in home.parent.glob("*/README.md"))
        raise InputError(f"there is no report {home}; there are: {', '.join(there) or 'none'}")
    files = {}
    for name in ("report.json", "runs.csv", "README.md", "effects.csv", "verdicts.tex"):
        try:
            files[name] = (home / name).read_text(encoding="utf-8")
        except FileNotFoundError:
            if name in ("effects.csv", "verdicts.tex"):  # a report without comparisons has none
                continue
            raise InputError(f"{home / name}: no such file; compile the report again") from None
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{home / name}: cannot be read: {error}") from None
    return files


def _about(text: str, home: Path) -> tuple[dict[str, Any], Study, Request]:
    """What a report keeps for its check, the question and what was requested besides."""
    try:
        about = json.loads(text)
        if not isinstance(about, dict):
            raise ValueError("no object in JSON")
        if lacking := ACCEPTED.keys() - about.keys():
            raise ValueError(f"{', '.join(sorted(lacking))} missing")
        for name, accepts in ACCEPTED.items():
            if not accepts(about[name]):
                raise ValueError(f"{name}: {printable(json.dumps(about[name]))[:80]}")
        wanted = about["request"].items()
        request = {key: tuple(value) if isinstance(value, list) else value for key, value in wanted}
        return about, Study.from_json(json.dumps(about["study"])), Request(**request)
    except (ValueError, RecursionError) as error:
        what = printable(error)
        raise InputError(f"{home / 'report.json'}: {what}; compile the report again") from None


def _reader_of(store: Store, run_ids: list[str]) -> Reader | None:
    """The store, where it has all these runs."""
    try:
        reader = Reader(store)
        there = set(reader.runs()["run_id"])
    except InputError:
        return None
    return reader if there.issuperset(run_ids) else None


def _compare(written: dict[str, str], recomputed: Compiled, home: Path) -> None:
    """Tables first, for a wrong cell there explains a wrong sentence."""
    order = ("runs.csv", "effects.csv", "verdicts.tex", "README.md", "report.json")
    for name in order:
        ours, again = written.get(name), recomputed.files.get(name)
        if ours == again:
            continue
        if ours is None or again is None:
            what = "missing" if ours is None else "no run gives such a table"
            raise DoesNotFollow(f"{home / name}: {what}")
        pairs = zip_longest(ours.splitlines(), again.splitlines(), fillvalue="")
        for line, (there, expected) in enumerate(pairs, 1):
            if not _agree(there, expected):
                raise DoesNotFollow(f"{home / name}, line {line}: {_difference(there, expected, name)}")


def _agree(there: str, expected: str) -> bool:
    """Whether two lines say the same: processors of another kind sum in another order."""
    if there == expected:
        return True
    found = NUMBER.findall(there), NUMBER.findall(expected)
    return NUMBER.split(there) == NUMBER.split(expected) and all(
        ours == again or math.isclose(_value(ours), _value(again), rel_tol=TOLERANCE, abs_tol=TOLERANCE)
        for ours, again in zip(*found, strict=True)
    )


def _value(number: str) -> float:
    value = float(number.replace(",", ""))
    return value if math.isfinite(value) else math.nan  # of digits that are no number, as in an id


def _difference(there: str, expected: str, name: str) -> str:
    """The first number in which two lines differ, else the first words."""
    if name.endswith(".csv"):  # where commas part no thousands
        there, expected = there.replace(",", " "), expected.replace(",", " ")
    for ours, again in zip_longest(NUMBER.findall(there), NUMBER.findall(expected)):
        if ours != again:
            return f"{ours or 'a number that is missing'} does not follow; recomputed: {again or 'nothing'}"
    return f"{there[:80]!r} does not follow; recomputed: {expected[:80]!r}"
