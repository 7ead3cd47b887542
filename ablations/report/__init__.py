"""Runs, read from the store, as a folder that a person likes to read: `reports/<name>/`.

`analysis` has the numbers, `words` the text, `drawings` the figures, `tables` what other programs read, `compile`
puts them together, `check` recomputes what was written. The same store gives the same bytes.
"""

from ablations.report.compile import Report, Request, compile_report, folder_name

__all__ = ["Report", "Request", "compile_report", "folder_name"]
