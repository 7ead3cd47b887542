"""A report that need not be compiled again: what it would be made of and all its files are as they were.

A sweep that is asked for again with nothing left to train gives the report that lies there, but for the ids of the
invocation in its runs.csv. What it was made of is noted in its folder, and compared before anything is imported that
compiling takes. The note is in a file of its own, as the rest of the folder is the same on every terminal and in every
place. Whatever is not just as it was has the report compiled.
"""

import csv
import hashlib
import io
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from ablations import ground
from ablations.commands import columns
from ablations.ground import paths
from ablations.ground.paths import CLONE, PACKAGE
from ablations.report.compile import home_of
from ablations.tracking.basis import basis
from ablations.tracking.columns import tag
from ablations.tracking.reports import PAGE

if TYPE_CHECKING:
    from ablations.report.compile import Report
    from ablations.tracking.store import Store

NOTE = ".compiled.json"
RUNS = "runs.csv"
LIBRARIES = (
    "numpy",
    "scipy",
    "pandas",
    "statsmodels",
    "matplotlib",
    "seaborn",
    "scikit-learn",
    "markdown-it-py",
    "pillow",
    "kiwisolver",
    "fonttools",
)
"""What a report's numbers, figures and pages are made with; the last two lay figures out and write the letters in PDFs
for matplotlib."""


@dataclass(frozen=True)
class Unchanged:
    """A report that is as it was, with what is said of a `Report`."""

    name: str
    path: Path
    summary: str
    failed: int
    experiment: str
    remark: str = ""


@dataclass(frozen=True)
class Making:
    """What a report of a sweep would be made of, at one moment.

    Attributes:
        name: of the sweep.
        digest: of the runs, the words, the libraries and the options.
        asked: by run the id of the invocation that asked for it last.
    """

    name: str
    digest: str
    asked: Mapping[str, str]

    @classmethod
    def of(cls, name: str, store: "Store", formats: Sequence[str]) -> "Making | None":
        """None where nobody can say without compiling it."""
        found = basis(store, name)
        if found is None:
            return None
        # The summary is as wide as the terminal.
        facts = [found.digest, list(formats), store.option, columns(sys.stdout), CLONE]
        try:
            facts += [_code(), _libraries(), _settings_of_figures()]
        except (OSError, RuntimeError):  # a file that cannot be read, no home
            return None
        return cls(name, hashlib.sha256(json.dumps(facts).encode()).hexdigest(), found.asked)

    def there(self) -> Unchanged | None:
        """The report in the folder of the name, with the ids of the newest invocation, where it is made of this."""
        home = home_of(self.name)
        try:
            noted = json.loads((home / NOTE).read_text(encoding="utf-8"))
            if noted["digest"] != self.digest or noted["files"] != _files(home):
                return None
            found = Unchanged(
                self.name, home / "README.md", noted["summary"], noted["failed"], noted["experiment"]
            )
            before = (home / RUNS).read_text(encoding="utf-8")
            after = _with_ids(before, self.asked)
            if after is None:
                return None
            if after != before:
                _replace(home / RUNS, after)
                # Nothing else is looked at again: another process may have written a report since.
                files = {**noted["files"], RUNS: hashlib.sha256(after.encode()).hexdigest()}
                _replace(home / NOTE, json.dumps({**noted, "files": files}))
        except (OSError, ValueError, LookupError, TypeError, csv.Error):
            return None
        return found

    def note(self, report: "Report") -> None:
        """Note in the folder of a report that it is made of this; not of one that is in another folder than that of its
        name, or is a page, too, which has the ids of runs.csv in it, nor of one that another process wrote over."""
        home = report.path.parent
        if report.remark or home != home_of(self.name) or (home / PAGE).exists():
            return
        said = {"summary": report.summary, "failed": report.failed, "experiment": report.experiment}
        try:
            files = _files(home)
            if report.written.items() <= files.items():
                _replace(home / NOTE, json.dumps({"digest": self.digest, "files": files, **said}))
        except OSError:  # then it is compiled the next time
            return


def _code() -> str:
    """A hash of the package, as a report's words and numbers come from all of it."""
    digest = hashlib.sha256()
    for path in sorted(PACKAGE.rglob("*.py")):
        digest.update(f"{path.relative_to(PACKAGE).as_posix()}\n".encode() + path.read_bytes())
    return digest.hexdigest()


def _libraries() -> list[str]:
    found = [f"Python {sys.version}"]
    for name in LIBRARIES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            found.append(name)
    return found


def _settings_of_figures() -> list[str]:
    """The files with the user's settings of matplotlib, wherever it looks for them. Raises OSError, RuntimeError."""
    named = [Path(os.environ[name]) for name in ("MATPLOTLIBRC", "MPLCONFIGDIR") if os.environ.get(name)]
    homes = [os.environ.get("XDG_CONFIG_HOME") or "~/.config", os.environ.get("LOCALAPPDATA") or "~"]
    homes = [Path(home).expanduser() / "matplotlib" for home in homes]
    folders = [Path(), *named, *homes, Path("~/.matplotlib").expanduser()]
    files = [path for folder in folders for path in (folder, folder / "matplotlibrc") if path.is_file()]
    return [path.read_text(encoding="utf-8", errors="replace") for path in files]


def _files(home: Path) -> dict[str, str]:
    """A hash of each file of the report, and of whatever else lies there."""
    return {
        path.relative_to(home).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(home.rglob("*"))
        if path.is_file() and path.name != NOTE
    }


def _with_ids(text: str, asked: Mapping[str, str]) -> str | None:
    """The text of a runs.csv with these ids of invocations; None for one that is not written as ours are."""
    head, *rows = csv.reader(io.StringIO(text))
    run, invocation = head.index("run_id"), head.index(tag("sweep_id"))
    if _csv([head, *rows]) != text:
        return None
    for row in rows:
        row[invocation] = asked.get(row[run], row[invocation])
    return _csv([head, *rows])


def _csv(rows: Sequence[Sequence[str]]) -> str:
    written = io.StringIO()
    csv.writer(written, lineterminator="\n").writerows(rows)
    return written.getvalue()


def _replace(path: Path, text: str) -> None:
    with paths.draft_folder(path.parent.parent, f".{path.parent.name}.") as new:
        (new / path.name).write_text(text, encoding="utf-8", newline="\n")
        ground.replace(new / path.name, path)
