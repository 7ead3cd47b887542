"""Does a report still follow from its runs? Recomputed from the store, or from its own `runs.csv`."""

import json
import re
from itertools import zip_longest
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from ablations.commands import many
from ablations.errors import InputError, PlainError
from ablations.report.analysis import analyse
from ablations.report.compile import Compiled, assembled, compiled_from, home_of
from ablations.report.drawings import Drawing
from ablations.report.escaping import Markdown
from ablations.report.files import runs_from_csv
from ablations.report.request import Request
from ablations.tracking.reader import Reader
from ablations.tracking.store import Store
from ablations.tracking.study import Study

NUMBER = re.compile(r"[-+]?\d+(?:,\d{3})*(?:\.\d+)?(?:e[-+]?\d+)?", re.IGNORECASE)


OPTIONAL = ("effects.csv", "verdicts.tex", "blocks.tex")
"""What a report without comparisons, or without blocks, does not have."""


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
    runs = runs_from_csv(written["runs.csv"], study, about["metrics"])

    reader = _reader_of(store, list(runs["run_id"]))
    if reader is not None:
        recomputed = compiled_from(reader, study.name, request, about["again"])
        source = "the store"
    else:
        analysis = analyse(study, runs, about["left_out"], strict=False, remarks=about.get("remarks", ()))
        # Without the store nothing can be drawn; headings and captions are taken as they are.
        kept = [
            Drawing(stem, Markdown(heading), Markdown(caption), Figure() if drawn else None)
            for stem, (heading, caption, drawn) in about["figures"].items()
        ]
        recomputed = assembled(analysis, kept, about["again"], request)
        source = "its runs.csv (the store does not have its runs, so that figures and their captions were not checked)"
    _compare(written, recomputed, home)
    return (
        f"{home.name}: README.md, runs.csv, effects.csv and verdicts.tex follow from {source}: "
        f"{many(len(runs), 'run')}, {many(len(recomputed.analysis.effects), 'comparison')}"
    )


def _written(home: Path) -> dict[str, str]:
    if not home.is_dir():
        there = sorted(path.parent.name for path in home.parent.glob("*/README.md"))
        raise InputError(f"there is no report {home}; there are: {', '.join(there) or 'none'}")
    files = {}
    for name in ("report.json", "runs.csv", "README.md", *OPTIONAL):
        try:
            files[name] = (home / name).read_text(encoding="utf-8")
        except FileNotFoundError:
            if name in OPTIONAL:
                continue
            raise InputError(f"{home / name}: no such file; compile the report again") from None
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{home / name}: cannot be read: {error}") from None
    return files


def _about(text: str, home: Path) -> tuple[dict[str, Any], Study, Request]:
    """What a report keeps for its check, the question and what was requested besides."""
    try:
        about = json.loads(text)
        lacking = {"study", "metrics", "left_out", "figures", "again", "request"} - set(about)
        if lacking:
            raise ValueError(f"{', '.join(sorted(lacking))} missing")
        wanted = about["request"].items()
        request = {key: tuple(value) if isinstance(value, list) else value for key, value in wanted}
        return about, Study.from_json(json.dumps(about["study"])), Request(**request)
    except (ValueError, TypeError, AttributeError) as error:
        raise InputError(f"{home / 'report.json'}: {error}; compile the report again") from None


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
    order = ("runs.csv", *OPTIONAL, "README.md", "report.json")
    for name in order:
        ours, again = written.get(name), recomputed.files.get(name)
        if ours == again:
            continue
        if ours is None or again is None:
            what = "missing" if ours is None else "no run gives such a table"
            raise DoesNotFollow(f"{home / name}: {what}")
        pairs = zip_longest(ours.splitlines(), again.splitlines(), fillvalue="")
        line, (there, expected) = next((i, pair) for i, pair in enumerate(pairs, 1) if pair[0] != pair[1])
        raise DoesNotFollow(f"{home / name}, line {line}: {_difference(there, expected, name)}")


def _difference(there: str, expected: str, name: str) -> str:
    """The first number in which two lines differ, else the first words."""
    if name.endswith(".csv"):  # where commas part no thousands
        there, expected = there.replace(",", " "), expected.replace(",", " ")
    for ours, again in zip_longest(NUMBER.findall(there), NUMBER.findall(expected)):
        if ours != again:
            return f"{ours or 'a number that is missing'} does not follow; recomputed: {again or 'nothing'}"
    return f"{there[:80]!r} does not follow; recomputed: {expected[:80]!r}"
