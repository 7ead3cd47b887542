"""A fixed store gives the same report, byte for byte. After a change that is meant, write the expected files anew:

ABLATIONS_GOLDEN=write python -m pytest -n 0 tests/report/test_report_golden.py

and read what changed: `git diff tests/golden`.
"""

import os
from pathlib import Path

import pytest

from ablations.report import Report, compile_report
from ablations.tracking.study import Study

GOLDEN = Path(__file__).parents[1] / "golden"
FILES = ("README.md", "effects.csv", "runs.csv", "verdicts.tex", "report.json")

STUDY = Study(
    name="golden",
    factors=("activation", "pool"),
    baseline={"activation": "relu", "pool": "max"},
    metric="test/error_pct",
    margin=0.25,
    design="grid",
    tuned_on="val/accuracy",
    question="Do activation and pooling matter, and does the one depend on the other?",
    nuisance=("optimizer.lr",),
    target={"metric": "val/accuracy", "value": 0.875},
    claims=(
        {
            "text": "Tanh is worse than ReLU.",
            "source": "A. B. & C. (1998), 3",
            "factor": "activation",
            "variant": "tanh",
            "baseline": "relu",
            "direction": "worse",
        },
        {
            "text": "ReLU is there sooner than tanh.",
            "source": "D. (2012)",
            "factor": "activation",
            "variant": "relu",
            "baseline": "tanh",
            "metric": "epochs_to_target",
        },
    ),
    command="python run.py -m +study=golden",
)


@pytest.fixture
def golden(store, tmp_path) -> Report:
    """Values are eighths, so that no sum of them depends on the order or the machine."""
    store.keep(STUDY)
    swept = {"sweep": "golden", "factors": "activation,pool,optimizer.lr", "epochs": 3}
    for seed in range(10):
        for activation, cost in (("relu", 0.0), ("tanh", 1.0 + seed / 8)):
            for pool, more in (("max", 0.0), ("avg", (seed % 3 - 1) / 8)):
                for rate, detour in (("0.001", 0.0), ("0.01", 0.5)):
                    chosen = {"activation": activation, "pool": pool, "optimizer.lr": rate}
                    both = 2.0 if (activation, pool) == ("tanh", "avg") else 0.0
                    error = 4.0 + seed % 2 / 4 + cost + more + both + detour
                    lost = (seed, activation, pool, rate) == (8, "tanh", "max", "0.001")
                    other = {"stream": "another"} if (seed, activation) == (7, "tanh") else {}
                    failure = (
                        {"failure": "error", "failure_reason": "no space left on device"} if lost else other
                    )
                    store.add(
                        None if lost else error,
                        seed=seed,
                        status="FAILED" if lost else "FINISHED",
                        predictions=not lost,
                        metrics=None if lost else {"val/accuracy": 1 - error / 128},
                        tags=failure,
                        **swept,
                        **chosen,
                    )
    return compile_report("golden", folder=tmp_path)


def test_the_golden_report(golden):
    written = {name: (golden.path.parent / name).read_text(encoding="utf-8") for name in FILES}
    written["console.txt"] = golden.summary + "\n"
    if os.environ.get("ABLATIONS_GOLDEN") == "write":
        GOLDEN.mkdir(exist_ok=True)
        for name, text in written.items():
            (GOLDEN / name).write_text(text, encoding="utf-8", newline="\n")
    for name, text in written.items():
        assert text == (GOLDEN / name).read_text(encoding="utf-8"), name
