"""LeNet-5 of 1998 as one whole, in the paper's numbers; and every file of conf/experiment."""

from itertools import combinations
from pathlib import Path

import hydra
import numpy as np
import pytest
from omegaconf import OmegaConf

from ablations.describe import compose_network, main
from ablations.errors import InputError
from ablations.ground.paths import CONF
from ablations.nn import heads
from ablations.nn.activations import ScaledTanh
from ablations.nn.heads import PenaltyLoss, RadialBasis, read_bitmaps
from ablations.nn.normalization import Rescaling
from ablations.training.loop import evaluate, train
from ablations.training.optimizers import SDLM
from ablations.training.recipe import Images, Options, Recipe
from ablations.training.streams import Streams

EXPERIMENTS = sorted(path.stem for path in (CONF / "experiment").glob("*.yaml"))
LENETS = ("lenet5_1998", "lenet5_1998_distorted", "lenet5_1998_fast", "lenet5_1998_once")

BITMAPS = Path(heads.__file__).parent / "bitmaps_7x12.txt"
TABLE = "012 123 234 345 450 501 0123 1234 2345 3450 4501 5012 0134 1245 0235 012345"
C3 = TABLE.split()


# The network


@pytest.mark.parametrize("experiment", LENETS)
def test_layers_have_the_papers_parameters_and_connections(experiment, capsys):
    main([f"+experiment={experiment}"])
    lines = capsys.readouterr().out.splitlines()
    rows = {line.split()[0]: line.split() for line in lines}
    shown = {
        name: tuple(rows[name][-3:-1]) for name in ("C1", "S2", "C3", "S4", "C5", "F6", "output", "total")
    }
    assert shown == {
        "C1": ("156", "122,304"),
        "S2": ("12", "5,880"),
        "C3": ("1,516", "151,600"),
        "S4": ("32", "2,000"),
        "C5": ("48,120", "48,120"),
        "F6": ("10,164", "10,164"),
        "output": ("0", "840"),
        "total": ("60,000", "340,908"),
    }


def test_parts_are_the_papers(compose):
    config = compose("+experiment=lenet5_1998")
    network = compose_network(["+experiment=lenet5_1998"])
    kinds = [type(layer).__name__ for layer in network.sequence]
    assert kinds == [
        *("Convolution", "Activate", "Subsampling", "Activate"),
        *("Convolution", "Activate", "Subsampling", "Activate"),
        *("Dense", "Activate", "Dense", "Activate", "RadialBasis"),
    ]
    squashing = network.sequence[1].activation
    assert isinstance(squashing, ScaledTanh)
    assert (squashing.amplitude, squashing.slope) == (1.7159, 2 / 3)
    assert ["".join(map(str, row)) for row in network.layers["C3"].connections] == C3
    assert isinstance(network.loss, PenaltyLoss)
    assert hydra.utils.instantiate(config.normalization) == Rescaling(background=-0.1, foreground=1.175)
    assert (config.trainer.epochs, config.trainer.batch_size) == (20, 1)
    assert config.dataset.val_fraction == 0
    rule = hydra.utils.instantiate(config.optimizer)
    assert isinstance(rule, SDLM)
    assert (rule.mu, rule.samples) == (0.02, 500)
    rule.start(np.zeros(1))
    schedule = []
    for epoch in range(1, 21):
        rule.begin_epoch(epoch)
        schedule.append(rule.lr)
    assert schedule == [5e-4] * 2 + [2e-4] * 3 + [1e-4] * 3 + [5e-5] * 4 + [1e-5] * 8


# Initial weights


def test_initial_weights_are_uniform_within_the_papers_range():
    """±2.4 / F_i, F_i the number of inputs of a unit; biases drawn like weights; S2 and S4 start as averages."""
    network = compose_network(["+experiment=lenet5_1998", "trainer.dtype=float64"])
    state = network.state()
    fans = {"C1": 25, "C5": 400, "F6": 120}
    for name, fan in fans.items():
        for key in ("weight", "bias"):
            values = state[f"{name}.{key}"] * fan / 2.4
            assert np.abs(values).max() <= 1
            if values.size > 1000:
                assert np.abs(values).max() > 0.999
                assert np.abs(values.mean()) < 0.01
                assert values.var() == pytest.approx(1 / 3, rel=0.03)
            assert len(np.unique(values)) == values.size
    for name in ("S2", "S4"):
        assert (state[f"{name}.weight"] == 1).all()
        assert (state[f"{name}.bias"] == 0).all()

    start = 0
    for m, reads in enumerate(C3):
        kernels = state["C3.weight"][start : start + len(reads)] * 25 * len(reads) / 2.4
        assert 0.93 < np.abs(kernels).max() <= 1, f"C3 map {m}"
        assert abs(state["C3.bias"][m]) <= 2.4 / 25 / len(reads)
        start += len(reads)
    assert start == len(state["C3.weight"]) == 60


def test_drawn_coefficients_have_a_fan_in_of_four():
    seeds = [compose_network(["+experiment=lenet5_1998_once", f"seed={seed}"]).state() for seed in range(6)]
    for name in ("S2.weight", "S2.bias", "S4.weight", "S4.bias"):
        values = np.concatenate([state[name].ravel() for state in seeds])
        assert 0.5 < np.abs(values).max() <= 0.6
        assert values.min() < 0 < values.max()


# The codes


def test_bitmaps_are_ten_different_drawings():
    codes = read_bitmaps(BITMAPS)
    assert codes.shape == (10, 7 * 12)
    assert set(np.unique(codes)) == {-1.0, 1.0}
    distances = {(i, j): int((codes[i] != codes[j]).sum()) for i, j in combinations(range(10), 2)}
    assert min(distances.values()) >= 10
    assert min(distances, key=distances.get) == (6, 8)


def test_codes_are_read_row_by_row():
    codes = read_bitmaps(BITMAPS)
    drawings = ["\n".join("".join(".#"[int(p > 0)] for p in row) for row in c.reshape(12, 7)) for c in codes]
    assert drawings[7].split() == [
        *(".......", "#######", "##...##", ".....##", ".....##", "....##."),
        *("....##.", "...##..", "...##..", "..##...", "..##...", "......."),
    ]
    assert drawings[1].split()[1:4] == ["...##..", "..###..", ".####.."]
    assert drawings[4].split()[7:9] == ["#######", "....##."]


def test_the_network_answers_with_the_nearest_code():
    layer, loss = RadialBasis("bitmaps_7x12.txt", 0.1), PenaltyLoss(1.0)
    layer.build((84,), None, None)
    layer.bind(*np.zeros((3, 0)))
    layer.resize(10)
    codes = read_bitmaps(BITMAPS)
    outputs = layer.forward(0.6 * codes.T + np.random.default_rng(0).normal(0, 0.2, (84, 10)))
    assert loss.answers(outputs).tolist() == list(range(10))


def test_bitmaps_may_lie_elsewhere(tmp_path):
    copy = tmp_path / "mine.txt"
    text = BITMAPS.read_text("utf-8")
    copy.write_text("\n\n" + text.replace("\n\n", "\n \n\n") + "\n\n", encoding="utf-8")
    np.testing.assert_array_equal(read_bitmaps(copy), read_bitmaps(BITMAPS))
    layer = RadialBasis(str(copy), 1)
    assert layer.build((84,), None, None) == (10,)


def spoilt(name: str, text: str) -> str:
    first, second = text.split("\n\n")
    lines = first.splitlines()
    return {
        "empty": "",
        "blank": "\n \n\n",
        "one block": first,
        "a row is missing": "\n".join(lines[:-1]) + "\n\n" + second,
        "a row too many": first + "\n" + lines[-1] + "\n\n" + second,
        "a drawing is missing": "\n".join([lines[0], *(row[:-8] for row in lines[1:])]) + "\n\n" + second,
        "a drawing ends early": "\n".join([*lines[:5], lines[5][:-8], *lines[6:]]) + "\n\n" + second,
        "a drawing too many": "\n".join([lines[0], *(f"{row} ......." for row in lines[1:])])
        + "\n\n"
        + second,
        "one row goes on": "\n".join([*lines[:5], f"{lines[5]} .......", *lines[6:]]) + "\n\n" + second,
        "another letter": text.replace("#", "X", 1),
        "a digit instead": text.replace(".......", "0......", 1),
        "too narrow": text.replace("#######", "######", 1),
        "too wide": text.replace("#######", "########", 1),
        "a digit twice": text.replace("9", "8"),
        "a digit drawn again": text + "\n" + second.replace("5 ", "0 ", 1).replace("6", "1"),
        "a letter for a digit": text.replace("9", "A"),
        "two figures": text.replace("9", "10"),
        "no digits": "\n".join(lines[1:]) + "\n\n" + second,
        "all run together": text.replace("\n\n", "\n"),
    }[name]


@pytest.mark.parametrize(
    "name",
    [
        "empty",
        "blank",
        "one block",
        "a row is missing",
        "a row too many",
        "a drawing is missing",
        "a drawing ends early",
        "a drawing too many",
        "one row goes on",
        "another letter",
        "a digit instead",
        "too narrow",
        "too wide",
        "a digit twice",
        "a digit drawn again",
        "a letter for a digit",
        "two figures",
        "no digits",
        "all run together",
    ],
)
def test_malformed_bitmaps_are_refused_by_name(name, tmp_path):
    path = tmp_path / "wrong.txt"
    path.write_text(spoilt(name, BITMAPS.read_text("utf-8")), encoding="utf-8")
    with pytest.raises(InputError, match=r"^bitmaps: .*wrong\.txt: ") as error:
        read_bitmaps(path)
    assert "\n" not in str(error.value)


def test_bitmaps_that_cannot_be_read_are_refused_by_name(tmp_path):
    with pytest.raises(InputError, match=r"^bitmaps: cannot read .*none\.txt: "):
        read_bitmaps(tmp_path / "none.txt")
    with pytest.raises(InputError, match=r"^bitmaps: cannot read "):
        read_bitmaps(tmp_path)
    (tmp_path / "latin.txt").write_bytes(b"0\n\xe9")
    with pytest.raises(InputError, match=r"^bitmaps: cannot read .*latin\.txt: "):
        read_bitmaps(tmp_path / "latin.txt")
    with pytest.raises(InputError, match=r"^output: bitmaps: cannot read .*none\.txt: "):
        compose_network(["head=rbf", f"head.output.bitmaps={tmp_path}/none.txt"])


# Experiments


def flat(node: object, prefix: str = "") -> dict[str, object]:
    if not isinstance(node, dict):
        return {prefix.rstrip("."): node}
    return {key: value for name in node for key, value in flat(node[name], f"{prefix}{name}.").items()}


@pytest.fixture(scope="module")
def resolved(compose):
    """The configuration of an experiment as dotted keys and values."""

    def resolved(experiment: str, *overrides: str) -> dict[str, object]:
        config = compose(f"+experiment={experiment}", *overrides)
        return flat(OmegaConf.to_container(config, resolve=True))

    return resolved


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_composes_builds_and_answers(experiment, compose):
    config = compose(f"+experiment={experiment}")
    assert config.dataset.name == "mnist"
    network = compose_network([f"+experiment={experiment}"])
    outputs = network.forward(np.zeros((1, 32, 32, 2), np.float32))
    assert outputs.shape == (10, 2)
    assert np.isfinite(outputs).all()
    for part in ("optimizer", "normalization", "distortion"):
        hydra.utils.instantiate(config[part])
    text = (CONF / "experiment" / f"{experiment}.yaml").read_text("utf-8")
    assert f"python run.py +experiment={experiment}" in text, "it carries its own command line"


# What each inherited experiment sets, and nothing else; `network` follows from pool and head.
DELTAS = {
    "lenet5_1998_once": {
        "pool.average": False,
        "pool.coefficient": None,
        "pool.bias": None,
        "head.output.scale": 0.05,
        "head.loss.j": 10.0,
        "optimizer.refresh_every": None,
    },
    "lenet5_1998_fast": {
        "trainer.batch_size": 8,
        "optimizer.lr": [2e-3] * 2 + [8e-4] * 3 + [4e-4] * 3 + [2e-4] * 4 + [4e-5],
    },
    "lenet5_1998_distorted": {
        "distortion._target_": "ablations.training.distortions.PlanarDistortion",
        "distortion.shift": 2.0,
        "distortion.scaling": 0.1,
        "distortion.squeezing": 0.1,
        "distortion.shearing": 0.2,
    },
}


@pytest.mark.parametrize("experiment", DELTAS)
def test_inherited_experiments_differ_in_what_they_say(experiment, resolved):
    base, own = resolved("lenet5_1998"), resolved(experiment)
    missing = object()
    changed = {key for key in base | own if base.get(key, missing) != own.get(key, missing)}
    changed = {key for key in changed if not key.startswith(("network.", "study.published."))}
    gone = {"distortion"} if experiment == "lenet5_1998_distorted" else set()  # {} of distortion=none
    assert {key: own[key] for key in changed & own.keys()} == DELTAS[experiment]
    assert changed - own.keys() <= gone
    for place, group in {"S2": "pool", "S4": "pool", "output": "head.output"}.items():
        for key in [key for key in own if key.startswith(f"{group}.")]:
            assert own[key.replace(group, f"network.layers.{place}", 1)] == own[key], key
    assert own["network.loss.j"] == own["head.loss.j"]


def test_experiments_can_be_changed_from_the_command_line(resolved):
    own = resolved("lenet5_1998_once", "head.loss.j=null", "trainer.epochs=2", "pool=max", "dataset=digits")
    assert own["head.loss.j"] is None
    assert own["trainer.epochs"] == 2
    assert own["network.layers.S2._target_"] == "ablations.nn.pooling.MaxPooling"
    assert own["dataset.name"] == "digits"


# Training


def test_two_passes_over_300_digits_one_at_a_time(compose, build):
    config = compose("+experiment=lenet5_1998", "dataset=digits")
    data = hydra.utils.instantiate(config.dataset).load()
    images = Images(data.train_images[:300], data.train_labels[:300])
    others = Images(data.train_images[300:600], data.train_labels[300:600])
    network = build("+experiment=lenet5_1998", "trainer.dtype=float32")
    options = Options(epochs=2, batch_size=1, clip_norm=None, replacement=False, eval_limit=None)
    normalization = hydra.utils.instantiate(config.normalization).fit(images.pixels)
    rule = hydra.utils.instantiate(config.optimizer)
    first, last = train(Recipe(network, rule, normalization, images, others, Streams(0), options))
    assert np.isfinite(network.values).all()
    assert last.train_loss < first.train_loss
    assert last.train_accuracy > 0.35
    assert last.val_accuracy > 0.4
    for record in (first, last):
        rates = record.optimizer
        assert 0 < rates["rate_min"] < rates["rate_median"] <= rates["rate_max"] <= 5e-4 / 0.02 * (1 + 1e-6)
    scored = evaluate(network, normalization, others)
    assert (scored.confidences > 0.1).all()
    assert (scored.confidences <= 1).all()
