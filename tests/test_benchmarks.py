"""The benchmarks run and write what they say. No timing decides a test."""

import importlib.util
import itertools
import json
import subprocess
import sys
import time

import pytest
from project import PATIENCE_S

from ablations.ground.paths import ROOT
from ablations.sweep.overrides import compose
from ablations.training.loop import evaluate, train
from ablations.training.recipe import assemble

BENCHMARKS = ROOT / "benchmarks"
SCRIPTS = sorted(
    path.name for path in BENCHMARKS.glob("*.py") if "parse_args()" in path.read_text(encoding="utf-8")
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


@pytest.mark.slow
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


@pytest.fixture(scope="module")
def whole_study(tmp_path_factory):
    """The module `study`, and a study of one epoch on the embedded digits in a folder of its own."""
    pytest.importorskip("torch", reason="PyTorch is not installed")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BENCHMARKS)
        module = importlib.import_module("study")
        yield module, module.Study(tmp_path_factory.mktemp("study"), seeds=1, epochs=1, root=None)


def test_both_sides_of_a_study_start_from_the_same_network(whole_study):
    module, study = whole_study
    losses = [study.losses(variant, seed=0) for variant in module.VARIANTS]
    for ours, theirs in losses:
        assert ours == pytest.approx(theirs, abs=module.LOSS_TOLERANCE)
    assert len({round(ours, 4) for ours, _ in losses}) == len(
        losses
    )  # so that mixing variants up would be seen


def test_both_sides_of_a_study_are_set_up_alike(whole_study):
    module, _ = whole_study
    import rival_study

    config = compose("+study=activation_x_pool")
    assert config.study.factors == {"activation": [*rival_study.ACTIVATIONS], "pool": [*rival_study.POOLS]}
    assert list(itertools.product(*config.study.factors.values())) == module.VARIANTS
    assert config.trainer.batch_size == rival_study.BATCH_SIZE
    rule = {key: value for key, value in config.optimizer.items() if key != "_target_"}
    wanted = {"lr": rival_study.LEARNING_RATE, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "weight_decay": 0}
    assert rule == wanted


def test_both_sides_of_a_study_train_the_same(whole_study, tmp_path):
    """In this process: ours by its loop, PyTorch's with its records."""
    module, study = whole_study
    recipe = assemble(study.config("tanh", "avg"))
    assert recipe.stream == study.streams[0]
    (ours,) = train(recipe)
    test = evaluate(recipe.network, recipe.normalization, recipe.test)

    import rival_study
    from mlflow import MlflowClient

    address = f"sqlite:///{tmp_path}/mlflow.db"
    MlflowClient(address).create_experiment("study", artifact_location=(tmp_path / "artifacts").as_uri())
    rival_study.load(study.data)
    before = time.time()
    rival_study.run(address, "1", "tanh", "avg", study.starts / "0.npz", fused=False)
    (run,) = module.runs_in(tmp_path / "mlflow.db")
    assert (run.variant, run.seed, run.stream) == (("tanh", "avg"), 0, None)
    assert run.val_accuracy == pytest.approx(ours.val_accuracy, abs=0.01)
    assert run.test_accuracy == pytest.approx(test.accuracy, abs=0.01)
    assert before - 0.001 <= run.start < run.start + run.epochs_s < run.end <= time.time()
    assert list((tmp_path / "artifacts").rglob("model.pt"))


def test_times_of_a_study_are_those_in_its_store(whole_study, capsys):
    module, _ = whole_study

    def run(variant, start, end, accuracy):
        return module.Run(variant, 0, start, end, 2.0, accuracy, accuracy, None)

    ours = [run(variant, 10.0 + at, 13.0 + at, 0.9) for at, variant in enumerate(module.VARIANTS)]
    theirs = [run(variant, 9.0 + 5 * at, 15.0 + 5 * at, 0.88) for at, variant in enumerate(module.VARIANTS)]
    times = {
        "ours": [module.Times.of(5.0, 20.0, 30.0, ours)],
        "torch": [module.Times.of(4.0, 41.0, 70.0, theirs)],
    }
    assert times["ours"] == [module.Times(13.0, 5.0, 12.0, 1.0, 15.0, 30.0)]
    assert module.ratio(times) == pytest.approx(36 / 13)  # 9 + 5 · 5 + 6 − 4
    module.tell(times, module.by_variant({"ours": ours, "torch": theirs}), [1.0], judge=True)
    said = capsys.readouterr().out
    assert "2.769 × (target at least 2.5 ×: met)" in said
    assert "2 points (target at most 1 points: NOT met)" in said
    with pytest.raises(SystemExit, match="ours left no run of relu/max"):
        module.by_variant({"ours": ours[1:]})


@pytest.mark.slow
def test_a_whole_study_is_compared_with_torch(tmp_path):
    pytest.importorskip("torch")
    done = python("study.py", "--quick", "--json", "study.json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    content = json.loads((tmp_path / "study.json").read_text())
    medians = {side: times["last_run"] for side, (times,) in content["times"].items()}
    assert content["ratio"] == medians["torch"] / medians["ours"]
    for times in (content["times"]["ours"][0], content["times"]["torch"][0]):
        assert 0 < times["first_run"] < times["last_run"] <= times["command"]
    for row in content["accuracies"]:
        assert row["ours_test"] == pytest.approx(row["torch_test"], abs=0.01)
    assert [path.name for path in tmp_path.iterdir()] == ["study.json"]
