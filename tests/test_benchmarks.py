"""The benchmarks run and write what they say. No timing decides a test."""

import importlib.util
import json
import subprocess
import sys

import pytest
from project import PATIENCE_S

from ablations.ground.paths import ROOT

BENCHMARKS = ROOT / "benchmarks"
SCRIPTS = sorted(
    path.name for path in BENCHMARKS.glob("*.py") if "argparse" in path.read_text(encoding="utf-8")
)


def python(script, *arguments, cwd):
    return subprocess.run(
        [sys.executable, str(BENCHMARKS / script), *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )


@pytest.fixture
def scaling(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("scaling")


def test_training_step_is_compared_with_torch(tmp_path):
    pytest.importorskip("torch")
    settings = ["--batches", "1", "8", "--variants", "relu/max", "sparse C3", "--optimizers", "sgd", "adam"]
    cheap = ["--repeats", "1", "--profile", "8", "--no-jax", "--json", "steps.json"]
    done = python("training.py", *settings, *cheap, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    content = json.loads((tmp_path / "steps.json").read_text())
    assert {"machine", "versions", "threads", "rows"} <= set(content)
    assert content["threads"] == 1
    cells = [(row["variant"], row["optimizer"], row["batch"]) for row in content["rows"]]
    assert cells == [
        (variant, optimizer, batch)
        for variant in ("relu/max", "sparse C3")
        for optimizer in ("sgd", "adam")
        for batch in (1, 8)
    ]
    for row in content["rows"]:
        keys = {"variant", "optimizer", "batch", "threads", "ours_us", "torch_us", "ratio"}
        assert set(row) == keys
        assert row["ratio"] == row["torch_us"] / row["ours_us"]
    (breakdown,) = content["breakdowns"]
    layers = {row["layer"]: row for row in breakdown["layers"]}
    assert {"C1", "S2", "C3", "S4", "C5", "F6", "output", "loss", "update"} <= set(layers)
    assert sum(row["together"] for row in layers.values()) <= sum(breakdown["kinds"].values())
    assert [path.name for path in tmp_path.iterdir()] == ["steps.json"]
    assert "2.264 MFLOP an image" in done.stdout  # 2 · (3 · 416,520 − 117,600)


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_says_what_is_measured_and_gives_examples(script, tmp_path):
    done = python(script, "--help", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(f"python benchmarks/{script}") >= 3


def test_missing_mnist_is_one_line(tmp_path):
    pytest.importorskip("torch")
    done = python("inference.py", "--root", str(tmp_path / "nowhere"), cwd=tmp_path)
    assert done.returncode != 0
    assert done.stderr.count("\n") == 1
    assert "skipped: no MNIST in" in done.stderr


@pytest.mark.parametrize(
    ("cost", "steepness"),
    [
        (lambda size: 5 + 0.01 * size, 1.0),
        (lambda size: 5 + 1e-5 * size * size, 2.0),
        (lambda size: 5 + 0.001 * size, None),  # from 5.0 to 6.0
    ],
)
def test_slope_is_that_of_the_growth(scaling, cost, steepness):
    sizes = (10, 100, 1000)
    found = scaling.slope(sizes, [cost(size) for size in sizes])
    assert found == (None if steepness is None else pytest.approx(steepness, abs=0.1))


def test_a_steep_end_is_not_hidden_by_a_flat_beginning(scaling):
    assert scaling.slope((10, 100, 1000, 10_000), (1.0, 2.0, 2.1, 130.0)) > scaling.STEEPEST


@pytest.fixture
def sections(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("sections")


def test_time_belongs_to_the_section_that_was_entered_last(sections, monkeypatch):
    now = iter(range(100))
    monkeypatch.setattr(sections.time, "process_time", lambda: next(now))
    clock = sections.Clock()

    def batches():
        yield from clock.timed(lambda: "ab", "data")()

    train = clock.timed(batches, "training")
    with clock.section("report"):  # a second passes at each change
        for _ in train():
            pass
    clock.charge()
    # rest | report | training, data in it, training | report | training | report | training | report | rest
    assert clock.cpu == {"rest": 1, "report": 4, "training": 4, "data": 1}


def test_every_timed_part_exists(sections):
    for name, parts in sections.SECTIONS.items():
        module = importlib.import_module(name)
        assert [part for part in parts if not hasattr(module, part)] == []
        assert set(parts.values()) <= set(sections.NAMES)


def test_sections_of_a_command_add_up(tmp_path):
    done = python("command.py", "--quick", "--only", "planned", "--json", "command.json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    content = json.loads((tmp_path / "command.json").read_text())
    times = content["times"]["planned"]
    assert min(times["cpu"][name] for name in ("imports", "composing", "rest")) > 0
    assert times["cpu"]["artifacts"] == 0  # a dry run leaves none
    together = sum(times["cpu"].values())
    assert f"{together:.2f}" in next(line for line in done.stdout.splitlines() if "together" in line)
