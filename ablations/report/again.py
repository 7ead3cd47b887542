"""A report once more from what its own folder holds: for a check without the store, and for a newer edition."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ablations.errors import InputError, PlainError, one_line, printable
from ablations.report.compile import TABLES, TRIALS
from ablations.report.escaping import Markdown
from ablations.report.request import Request
from ablations.tracking.accepted import by_name, is_level, is_number, is_text, list_of, with_keys
from ablations.tracking.study import Study

if TYPE_CHECKING:
    import pandas as pd

    from ablations.report.analysis import Analysis
    from ablations.report.compile import Compiled
    from ablations.report.drawings import Drawing

_TEXTS = list_of(lambda value: isinstance(value, str))
_REQUEST = {
    "experiment": lambda value: is_text(value) or list_of(is_text)(value),
    **dict.fromkeys(("factors", "nuisance", "ignore", "average_over"), list_of(is_text)),
    **dict.fromkeys(("metric", "seed_param", "tuned_on", "blocks", "value", "where"), is_text),
    "baseline": by_name(is_level),
    "margin": lambda value: is_number(value) and value >= 0,
    **dict.fromkeys(
        ("smaller_is_better", "tuned_smaller_is_better", "unpaired"), lambda value: isinstance(value, bool)
    ),
    "looks": list_of(lambda value: isinstance(value, int)),
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
    "looks": list_of(with_keys({"invocation": lambda value: isinstance(value, str)}, {"seeds": _TEXTS})),
    "remarks": _TEXTS,
    "images": by_name(lambda value: isinstance(value, dict)),
    "tuning": by_name(is_text),
    "request": lambda value: with_keys({}, _REQUEST)(value) and value.keys() <= _REQUEST.keys(),
}
"""What each part of report.json may be."""


@dataclass(frozen=True)
class Kept:
    """A report as it is kept.

    Attributes:
        home: its folder.
        files: its text files by name.
        about: its `report.json`.
        study: the question.
        request: what was requested besides.
        runs: as the reader gave them.
        tuning: those of its trials likewise; None where there were none.
    """

    home: Path
    files: Mapping[str, str]
    about: Mapping[str, Any]
    study: Study
    request: Request
    runs: "pd.DataFrame"
    tuning: "pd.DataFrame | None" = None


def kept(home: Path) -> Kept:
    """A report's own files. Raises InputError where there is none, or one without what is needed."""
    from ablations.report.files import runs_from_csv

    files = _files(home)
    about, study, request = _about(files["report.json"], home)
    runs, trials = runs_from_csv(files["runs.csv"], study, about["metrics"]), None
    if study.tuning is not None and TRIALS in files:
        trials = runs_from_csv(files[TRIALS], study, about["tuning"], TRIALS)
    return Kept(home, files, about, study, request, runs, trials)


@contextmanager
def fitting(home: Path) -> Iterator[None]:
    """While a report is made of its own numbers: raises InputError where these do not fit its runs."""
    try:
        yield
    except PlainError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise InputError(
            f"{printable(home / 'report.json')}: does not fit its runs ({one_line(error)}); compile the report again"
        ) from error


def recomputed(kept: Kept) -> "Compiled":
    """The report from its runs; headings, captions and what else takes the store are as they were."""
    return _assembled(kept, analysed(kept), _drawn(kept))


def compile_again(home: Path) -> Path:
    """Write a report's text and tables anew from its own runs, and the figures whose numbers are among them; the
    others stay. Returns its README.md.

    Raises:
        InputError: no such report, or one that cannot be written.
    """
    from ablations.report.compile import write

    old = kept(home)
    analysis, found = redrawn(old)
    try:
        write(home, _assembled(old, analysis, found), ())
    except OSError as error:
        raise InputError(f"cannot write the report to {home}: {error.strerror or error}") from error
    return home / "README.md"


def redrawn(kept: Kept) -> "tuple[Analysis, Iterator[Drawing]]":
    """The numbers of a report, and its figures: those whose numbers are among its runs anew, the others as they lie
    there."""
    analysis = analysed(kept)
    return analysis, _redrawn(kept, analysis)


def _redrawn(kept: Kept, analysis: "Analysis") -> "Iterator[Drawing]":
    import pandas as pd

    from ablations.report.drawings import drawings

    histories = pd.DataFrame(columns=["run_id", "metric", "step", "value"])
    before = {each.stem: each for each in _drawn(kept)}
    for each in drawings(_Nothing(), analysis, histories):
        was = before.pop(each.stem, each)
        yield was if each.draw is None and was.kept else each
    yield from before.values()


class _Nothing:
    """A store without artifacts."""

    def artifact(self, run_id: str, path: str) -> None:
        """None."""


def analysed(kept: Kept) -> "Analysis":
    """The numbers of a report, from its runs. Raises InputError where they do not fit together."""
    from ablations.report.analysis import analyse
    from ablations.report.files import images_from_json
    from ablations.report.tuning import with_trials

    looks = [look["invocation"] for look in kept.about["looks"] if look["invocation"]]
    left, remarks = kept.about["left_out"], kept.about["remarks"]
    analysis = analyse(kept.study, kept.runs, left, False, looks, kept.request.looks, remarks)
    if kept.tuning is not None:
        analysis = with_trials(analysis, kept.tuning, kept.request.looks)
    try:
        return replace(analysis, images=images_from_json(kept.about["images"]))
    except (ValueError, TypeError, AttributeError, LookupError) as error:
        raise InputError(f"{kept.home / 'report.json'}: images: {error}; compile the report again") from None


def _drawn(kept: Kept) -> Iterator["Drawing"]:
    """The figures that lie there."""
    from ablations.report.drawings import Drawing

    for stem, (heading, caption, drawn) in kept.about["figures"].items():
        yield Drawing(stem, Markdown(heading), Markdown(caption), kept=bool(drawn))


def _assembled(kept: Kept, analysis: "Analysis", figures: "Iterator[Drawing]") -> "Compiled":
    from ablations.report.compile import assembled

    return assembled(analysis, list(figures), kept.about["again"], kept.request)


def _files(home: Path) -> dict[str, str]:
    if not home.is_dir():
        there = sorted(path.parent.name for path in home.parent.glob("*/README.md"))
        raise InputError(f"there is no report {home}; there are: {', '.join(there) or 'none'}")
    files = {}
    for name in ("report.json", "runs.csv", "README.md", *TABLES):
        try:
            files[name] = (home / name).read_text(encoding="utf-8")
        except FileNotFoundError:
            if name in TABLES:
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
        about = {
            "looks": [],
            "images": {},
            "remarks": [],
            "tuning": {},
            **about,
        }  # earlier editions knew of none
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
