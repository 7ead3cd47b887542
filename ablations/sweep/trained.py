"""Training from Python: `ablations.train`, for notebooks and scripts."""

import math
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ablations.errors import InputError, printable
from ablations.ground.paths import CLONE, HOME, ROOT
from ablations.tracking.columns import metric, metrics_in, param, params_in

if TYPE_CHECKING:
    import pandas as pd

    from ablations.predict.model import Model
    from ablations.tracking.reader import Reader

RAN = re.compile(r"^run ([0-9a-f]{32}) in (\S.*)$", re.MULTILINE)
"""What a single run ends with."""
ERROR = "error: "
STOP_S = 30.0
"""How long a run that is interrupted may take to write its checkpoint."""


@dataclass(frozen=True)
class TrainedRun:
    """A run of the store.

    Attributes:
        id: in MLflow.
        name: what distinguishes it.
        params: the whole configuration, as text.
        metrics: the last value of each, `test/accuracy` and `test/error_pct` among them.
        uri: of the store.
    """

    id: str
    name: str
    params: Mapping[str, str]
    metrics: Mapping[str, float]
    uri: str

    def history(self) -> "pd.DataFrame":
        """The metrics by epoch: one row per epoch, from 1, and one column per metric."""
        from ablations.tracking.reader import Reader
        from ablations.tracking.store import Store

        points = Reader(Store(self.uri)).histories([self.id])
        return points.pivot_table("value", "step", "metric", aggfunc="last")

    def model(self) -> "Model":
        """The trained network, whose `read` takes pictures (n, 28, 28). Raises InputError where the run has none."""
        from ablations.predict.choosing import load
        from ablations.tracking.reader import Reader
        from ablations.tracking.store import Store

        reader = Reader(Store(self.uri))
        return load(reader, _row(reader, self.id))

    def predict(self, *files: "str | os.PathLike[str]") -> "pd.DataFrame":
        """The digits in image files: columns `file`, `digit`, `confidence`. Raises InputError for another file."""
        import numpy as np
        import pandas as pd

        from ablations.predict.digit_image import read_image

        model = self.model()
        if not files:
            raise InputError("predict: at least one image file is expected")
        images = [read_image(Path(file), model.pictures)[0] for file in files]
        digits, probabilities = model.read(np.stack(images))
        rows = {
            "file": [str(file) for file in files],
            "digit": digits,
            "confidence": probabilities.max(axis=1),
        }
        return pd.DataFrame(rows)


def train(overrides: Sequence[str] = ()) -> TrainedRun:
    """Train one configuration, as `python run.py …` does and in a process of its own, and return its run.

    A run that is finished already is returned at once; one that was interrupted goes on from its checkpoint.

    Args:
        overrides: as on the command line, such as `["activation=tanh", "trainer.epochs=1"]`.

    Raises:
        InputError: a configuration that cannot be, a training that failed, or overrides that ask for more than one run.
    """
    from ablations.tracking.reader import Reader
    from ablations.tracking.store import Store

    words = [overrides] if isinstance(overrides, str) else list(map(str, overrides))
    if wrong := [word for word in words if word.startswith("-") or "=" not in word]:
        raise InputError(
            f"train: {printable(wrong[0])}: key=value is expected, one run at a time; a sweep is `python run.py -m …`"
        )
    said, errors, code = _ran([*_command(), *words])
    found = RAN.findall(said)
    if code or not found:
        lines = [line for line in errors.strip().splitlines() if line.strip()] or [
            f"it ended with exit code {code}"
        ]
        raise InputError(f"train: {printable(lines[-1].removeprefix(ERROR))}")
    run_id, uri = found[-1]
    row = _row(Reader(Store(uri)), run_id)
    params = {key: row[param(key)] for key in params_in(row.index) if isinstance(row[param(key)], str)}
    values = {name: float(row[metric(name)]) for name in metrics_in(row.index)}
    metrics = {name: value for name, value in values.items() if not math.isnan(value)}
    return TrainedRun(run_id, str(row["run_name"]), params, metrics, uri)


def _command() -> list[str]:
    """What trains one configuration: run.py, or the installed command."""
    return [sys.executable, *([str(ROOT / "run.py")] if CLONE else ["-m", "ablations", "run"])]


def _ran(command: Sequence[str]) -> tuple[str, str, int]:
    """What a command said on stdout and stderr, and its exit code. Ctrl-C reaches it, too, and lets it end in order."""
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    home = {"ABLATIONS_HOME": str(HOME)}  # wherever the working directory has gone since
    process = subprocess.Popen(command, **pipes, text=True, encoding="utf-8", env=os.environ | home)
    try:
        return (*process.communicate(), process.returncode)
    except KeyboardInterrupt:
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.terminate()
        raise


def _row(reader: "Reader", run_id: str) -> "pd.Series":
    runs = reader.runs()
    found = runs[runs["run_id"] == run_id]
    if found.empty:
        raise InputError(f"the store has no run {run_id} any more")
    return found.iloc[0]
