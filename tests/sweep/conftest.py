"""Sweeps as they are typed, one after the other in this process, in a store of their own."""

import json
import runpy
import sys
from pathlib import Path

import pytest
from hydra.core.global_hydra import GlobalHydra

from ablations.ground.paths import ROOT
from ablations.tracking import Reader, Store
from ablations.tracking.columns import tag
from ablations.tracking.study import looks_in


class Commands:
    """Sweeps into a store of their own, and what they leave there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = Store(f"sqlite:///{folder / 'mlflow.db'}")
        self.reports = folder / "reports"

    def sweep(self, name: str, *overrides: str) -> None:
        words = ["-m", "trainer.epochs=1", f"name={name}", *overrides]
        places = [f"tracking.uri={self.store.uri}", f"hydra.sweep.dir={self.folder / 'logs'}"]
        sys.argv[:] = [str(ROOT / "run.py"), *words, *places]
        try:
            runpy.run_path(sys.argv[0], run_name="__main__")
        finally:
            GlobalHydra.instance().clear()

    def looks(self, name: str) -> list[list[str]]:
        """The seeds of each look, from report.json."""
        found = json.loads((self.reports / name / "report.json").read_text("utf-8"))["looks"]
        return [look["seeds"] for look in found]

    def kept(self) -> int:
        """How many invocations the store knows as looks."""
        reader = Reader(self.store)
        return len(looks_in(reader.experiment_tags(reader.runs()["experiment_id"].iloc[0])))

    def first(self, name: str) -> dict[str, str]:
        """By seed the invocation that first had its run."""
        runs = Reader(self.store).runs(tags={"sweep": name})
        return dict(zip(runs["params.seed"], runs[tag("first_sweep_id")], strict=True))

    def files(self, name: str) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in (self.reports / name).iterdir() if path.is_file()}


@pytest.fixture
def commands(tmp_path, monkeypatch):
    monkeypatch.setattr("ablations.ground.paths.REPORTS", tmp_path / "reports")
    monkeypatch.setattr("ablations.report.drawings.drawings", lambda *_: iter(()))
    monkeypatch.setattr(sys, "argv", list(sys.argv))
    return Commands(tmp_path)
