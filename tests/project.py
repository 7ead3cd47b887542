"""The command line as a user types it, in a copy of the project so that its own store and reports stay as they are."""

import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import commands
import pandas as pd
import pytest

from ablations.ground.paths import ROOT
from ablations.tracking import Reader, Store

PATIENCE_S = 1800
"""How long a test waits for what hangs. A busy machine never takes as long: no clock decides a test."""


def wait_until(happened: Callable[[], object], what: str) -> None:
    """Wait for something that another process does; fail with `what` where it never comes."""
    until = time.monotonic() + PATIENCE_S
    while not happened():
        if time.monotonic() > until:
            pytest.fail(f"it never came: {what}")
        time.sleep(0.02)


class Project:
    """A copy of the project, and commands run in it from a working directory that is elsewhere."""

    def __init__(self, folder: Path) -> None:
        self.root, self.elsewhere = folder / "project", folder / "elsewhere"
        self.elsewhere.mkdir()
        for name in ("conf", "ablations", "hydra_plugins"):
            shutil.copytree(ROOT / name, self.root / name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "run.py", self.root)

    @property
    def environment(self) -> dict[str, str]:
        unset = {"MLFLOW_TRACKING_URI", "HYDRA_FULL_ERROR"}
        environment = {key: value for key, value in os.environ.items() if key not in unset}
        return environment | {"PYTHONPATH": str(self.root)}

    def python(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return commands.run(arguments, self.elsewhere, self.environment, PATIENCE_S)

    def run(self, *overrides: str) -> subprocess.CompletedProcess[str]:
        return self.python(str(self.root / "run.py"), *overrides)

    @property
    def reader(self) -> Reader:
        return Reader(Store(f"sqlite:///{self.root / 'mlruns' / 'mlflow.db'}"))

    def runs(self, sweep: str) -> pd.DataFrame:
        return self.reader.runs(tags={"sweep": sweep})
