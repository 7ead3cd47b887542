"""A store that is made run by run, and reports without figures."""

import pytest


@pytest.fixture
def store(tmp_path, monkeypatch):
    """A store that the report reads in place of the one at the tracking address."""
    from fake_store import Store

    import ablations.report.check  # noqa: F401  # it has a name of its own for the reader

    made = Store(tmp_path / "artifacts")
    for module in ("ablations.tracking.reader", "ablations.report.check"):
        monkeypatch.setattr(f"{module}.Reader", lambda uri: made)
    return made


@pytest.fixture
def without_figures(monkeypatch):
    """Reports of words and tables alone, where these are what is tested: drawing takes most of their time."""
    monkeypatch.setattr("ablations.report.drawings.drawings", lambda *_: iter(()))
