"""Runs, read from the store, as a folder that a person likes to read: `reports/<name>/`.

In comes what was requested, out go a folder and what the console shows; it knows the store's reader, `comparison`
and `plots`. `request` says what a report is to be about, `analysis` has the numbers, `answer` the sentences,
`sections` the page, `tables` its tables, `drawings` its figures, `console` the same for a terminal, `files` what other
programs read, `compile` puts them together, `check` recomputes what was written, `index` and `findings` say what the
published ones (`shelf`) say together. All words are made here, and text
from elsewhere is escaped by its type (`escaping`). The same store gives the same bytes.
"""

from ablations.report.compile import Report, compile_report, folder_name
from ablations.report.request import Request

__all__ = ["Report", "Request", "compile_report", "folder_name"]
