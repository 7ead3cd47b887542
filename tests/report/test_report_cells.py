"""Cells of a report's tables, which people open with spreadsheets."""

import io

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ablations.ground.paths import REPORTS
from ablations.report import check
from ablations.report.compile import compile_report
from ablations.report.files import harmless, original

KEPT = ["", "relu", "-0.5", "+1e-3", "-inf", "1-2", "'quoted'", "C:\\x", "two\nlines", "a=b"]


@pytest.mark.parametrize("text", KEPT)
def test_what_does_no_harm_stays_as_it_is(text):
    assert harmless(text) == original(text) == text


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("=1+1", "'=1+1"),
        ("+cmd|' /C calc'!A0", "'+cmd|' /C calc'!A0"),
        ("-1+1", "'-1+1"),
        ("@SUM(A1)", "'@SUM(A1)"),
        (" =1", "' =1"),
        ("'=1", "''=1"),
        ("＝1", "'＝1"),
        ("\t=1", "'\\u000009=1"),
        ("a\x1b[31mb", "'a\\u00001b[31mb"),
        ("=\\u00001b", "'=\\\\u00001b"),
    ],
)
def test_what_a_spreadsheet_or_a_terminal_would_obey_is_made_harmless(text, cell):
    assert harmless(text) == cell
    assert original(cell) == text


@settings(deadline=None, max_examples=500)
@given(st.one_of(st.text(), st.text("='\\u001b-@ \n\r\x1b\x9b0", max_size=12)))
def test_every_text_comes_back_from_its_cell(text):
    cell = harmless(text)
    assert original(cell) == text
    assert cell.replace("\n", "").isprintable() or cell.replace("\n", "") == ""
    assert not (cell[:1] and cell[0] in "=+-@\t\r\n") or float(cell) == float(cell)
    assert pd.read_csv(io.StringIO(pd.DataFrame({cell or "x": [cell]}).to_csv()), dtype=str) is not None


@settings(deadline=None, max_examples=300)
@given(st.text("='\\u001b-@ 0", max_size=12))
def test_every_cell_is_read(cell):
    """As people may have written it, and as reports of before have it."""
    text = original(cell)
    assert text == cell or harmless(text) == cell


@pytest.mark.usefixtures("without_figures")
@pytest.mark.parametrize("nasty", ["=HYPERLINK(1)", "-x", "\x1b]0;title\x07", "a\r\nb", "\u009b31m", "'=1\\"])
def test_a_report_of_such_cells_follows_from_its_own_files(store, tmp_path, monkeypatch, nasty):
    for seed in range(2):
        for level, error in ((nasty, 5.0), ("relu", 6.0)):
            store.add(error + seed / 10, seed=seed, activation=level, metrics={"-loss": -1.0})
    report = compile_report("s", None, tmp_path)
    for file in report.path.parent.glob("*.*"):
        assert file.read_text("utf-8").replace("\n", "").isprintable(), file
    cells = pd.read_csv(report.path.parent / "runs.csv", dtype=str)
    assert harmless(nasty) in set(cells["activation"])
    assert "'-loss" in cells
    assert set(cells["'-loss"]) == {"-1.0"}
    assert "follow" in check.check("s", store, tmp_path)
    monkeypatch.setattr(check, "_reader_of", lambda *_: None)
    assert "runs.csv" in check.check("s", store, tmp_path)


def test_committed_reports_have_no_such_cells():
    for path in REPORTS.glob("*/*.csv"):
        frame = pd.read_csv(path, dtype=str, keep_default_na=False)
        for cell in {*frame, *frame.to_numpy().ravel()}:
            assert harmless(cell) == cell, path
