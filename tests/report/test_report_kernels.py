"""A report is the same on every processor: compiled with other BLAS kernels and without numpy's vector instructions."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from project import PATIENCE_S

from ablations.ground.paths import ROOT

# A grid of errors in % as they were logged before they were rounded, no sum of which is exact.
COMPILE = """
import json, sys
from pathlib import Path

import numpy as np

sys.path[:0] = [sys.argv[1]]
import fake_store
import ablations.tracking.reader as reader
from ablations.report import compile_report
from ablations.tracking.study import Study

draws = np.random.RandomState(5)
store = fake_store.Store(Path(sys.argv[2]) / "artifacts")
baseline = {"activation": "relu", "pool": "max"}
store.keep(Study("s", tuple(baseline), baseline, "test/error_pct", 0.1, design="grid", tuned_on="val/accuracy"))
values = []
for seed in range(8):
    for i, activation in enumerate(("relu", "tanh", "sigmoid")):
        for j, pool in enumerate(("max", "avg")):
            wrong = int(draws.randint(90, 150)) + 30 * i + 20 * j * (i == 2)
            values.append(100 * (1 - (1 - wrong / 10_000)))
            at = {"activation": activation, "pool": pool, "dataset.test_images": 10_000}
            store.add(values[-1], seed=seed, factors="activation,pool", **at)
reader.Reader = lambda uri: store
import ablations.report.drawings as drawings
drawings.drawings = lambda *_: iter(())
compile_report("s", folder=Path(sys.argv[2]))
signs = np.array([1, -1] * 24) / 3
print(json.dumps([float(np.dot(signs[:n], values[k : k + n])) for n in (6, 24) for k in range(24)]))
"""


def compiled(folder: Path, **environment: str) -> tuple[dict[str, str], list[float]]:
    """The files of the report, and what `np.dot` makes of its values."""
    folder.mkdir()
    command = [sys.executable, "-c", COMPILE, str(Path(__file__).parent), str(folder)]
    done = subprocess.run(
        command, env=os.environ | environment, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_S
    )
    assert done.returncode == 0, done.stderr
    texts = (path for path in sorted((folder / "s").iterdir()) if path.is_file())
    return {path.name: path.read_text(encoding="utf-8") for path in texts}, json.loads(done.stdout)


def test_two_kernels_give_the_same_files(tmp_path):
    from numpy._core._multiarray_umath import __cpu_dispatch__, __cpu_features__

    vectors = " ".join(name for name in __cpu_dispatch__ if __cpu_features__.get(name))
    files, dots = compiled(tmp_path / "a", OPENBLAS_CORETYPE="Haswell")
    plain, others = compiled(tmp_path / "b", OPENBLAS_CORETYPE="Prescott", NPY_DISABLE_CPU_FEATURES=vectors)
    if dots == others:
        pytest.skip("np.dot rounds alike under both kernels: not OpenBLAS, or one of a single kernel")
    assert set(files) == {"README.md", "effects.csv", "report.json", "runs.csv", "verdicts.tex"}
    assert plain == files
