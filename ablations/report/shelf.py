"""The published reports of a folder, read from their own files."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from ablations.errors import InputError, PlainError, one_line, printable
from ablations.report.compile import PUBLISHED
from ablations.report.escaping import Markdown, md

if TYPE_CHECKING:
    from ablations.report.analysis import Analysis


@dataclass(frozen=True, eq=False)
class Shelved:
    """A published report.

    Attributes:
        name: of its folder.
        home: its folder.
        analysis: its numbers.
        figures: of each by its name the heading, the caption, and whether it is drawn.
    """

    name: str
    home: Path
    analysis: "Analysis"
    figures: Mapping[str, Any]

    def picture(self, stem: str, prefix: str = "") -> Markdown | None:
        """One of its figures to be shown where `prefix` leads to the folder of reports; None where there is none."""
        heading, _, drawn = self.figures.get(stem, ("", "", False))
        if not drawn or not (self.home / "figures" / f"{stem}.png").is_file():
            return None
        return md("![{}]({}/figures/{}.png)", Markdown(heading), self.address(prefix), stem)

    def link(self, prefix: str = "") -> Markdown:
        """Its name, which leads to it."""
        return md("[{}]({}/README.md)", self.name, self.address(prefix))

    def address(self, prefix: str = "") -> Markdown:
        """Its folder as an address, from where `prefix` leads to the folder of reports."""
        return Markdown(prefix + quote(os.fsencode(self.name)))


def homes(folder: Path) -> list[Path]:
    """The folders of the published reports in a folder, by name. Raises InputError where there is none."""
    found = sorted(path.parent for path in folder.glob(f"*/{PUBLISHED}"))
    if not found:
        raise InputError(
            f"{printable(folder)}: no published report; a report is published by a file {PUBLISHED} in its folder"
        )
    return found


def shelved(home: Path) -> Shelved:
    """A published report. Raises InputError for one that is damaged."""
    from ablations.report.again import analysed, fitting, kept

    try:
        there = kept(home)
        with fitting(home):
            return Shelved(home.name, home, analysed(there), there.about["figures"])
    except PlainError as error:
        raise InputError(f"{printable(home.name)}: {one_line(error)}") from error
