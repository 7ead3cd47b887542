"""A fixed store gives the same report, byte for byte. After a change that is meant, write the expected files anew:

ABLATIONS_GOLDEN=write python -m pytest -n 0 tests/report/test_report_golden.py

and read what changed: `git diff tests/golden`.
"""

import json
import os
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from ablations.errors import InputError
from ablations.report import Report, compile_report
from ablations.report.check import DoesNotFollow, check
from ablations.tracking import Store
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


@pytest.fixture
def crossing(store, tmp_path, without_figures) -> Report:
    """Two factors whose best level depends on the other's, with what each run read: images are harder or easier for
    all, some for one variant, some with one seed. Every number of images is an integer, so that none depends on the
    machine."""
    baseline = {"activation": "relu", "pool": "max"}
    store.keep(
        Study(
            "crossing",
            tuple(baseline),
            baseline,
            "test/error_pct",
            0.1,
            design="grid",
            tuned_on="val/accuracy",
            question="Which pooling suits which activation?",
            command="python run.py -m +study=crossing",
        )
    )
    images = np.arange(360)
    for seed in range(10):
        for activation, pool in product(("relu", "tanh"), ("max", "avg")):
            hard = images % 24 == 5
            own = {"relu max": images % 45 == 7, "tanh avg": images % 16 == 9}
            of_variant = own.get(f"{activation} {pool}", images % 120 == 11)
            turn = 2 * (activation == "tanh") + (pool == "avg")
            of_run = (images * (2 * seed + 3) + 5 * turn) % 97 < 2 + (seed + turn) % 3
            misread = hard | of_variant | of_run
            store.add(
                round(100 * misread.mean(), 10),
                sweep="crossing",
                factors="activation,pool",
                seed=seed,
                activation=activation,
                pool=pool,
                misread=misread,
            )
    return compile_report("crossing", folder=tmp_path / "reports")


def same_as_expected(report: Report, folder: Path) -> None:
    """Compare a report's files with those that are kept, or keep them."""
    written = {name: (report.path.parent / name).read_text(encoding="utf-8") for name in FILES}
    written["console.txt"] = report.summary + "\n"
    if os.environ.get("ABLATIONS_GOLDEN") == "write":
        folder.mkdir(exist_ok=True)
        for name, text in written.items():
            (folder / name).write_text(text, encoding="utf-8", newline="\n")
    for name, text in written.items():
        assert text == (folder / name).read_text(encoding="utf-8"), name


def test_the_golden_report(golden):
    same_as_expected(golden, GOLDEN)


def test_the_golden_report_of_choices_that_depend_on_each_other(crossing):
    """With simple effects, intervals over seeds and images, shares of variance and Shapley values."""
    same_as_expected(crossing, GOLDEN / "crossing")


def test_a_report_with_intervals_over_images_follows_from_its_own_runs(crossing, store):
    home = crossing.path.parent
    assert "follow from the store: 40 runs" in check("crossing", Store(), folder=home.parent)
    store.rows.pop()
    assert "follow from its runs.csv" in check("crossing", Store(), folder=home.parent)
    effects = (home / "effects.csv").read_text()
    wide = effects.splitlines()[1].split(",")[15]
    (home / "effects.csv").write_text(effects.replace(wide, f"{float(wide) * (1 + 1e-6):.12g}"))
    with pytest.raises(DoesNotFollow, match=r"effects\.csv, line 2"):
        check("crossing", Store(), folder=home.parent)


@pytest.mark.parametrize("images", [[], {"a": 1}, {"0": {"wide_low": "x"}}])
def test_damaged_intervals_are_one_clear_line(crossing, store, images):
    store.rows.pop()
    path = crossing.path.parent / "report.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"images": images}))
    with pytest.raises(InputError, match=r"report\.json: images: .*compile the report again"):
        check("crossing", Store(), folder=path.parent.parent)
