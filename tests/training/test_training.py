"""The training loop, against the same training written out plainly; evaluation; random streams."""

from dataclasses import FrozenInstanceError, replace
from itertools import chain, pairwise

import hydra
import numpy as np
import pytest

from ablations.errors import InputError, PlainError
from ablations.nn.feeder import Feeder
from ablations.nn.heads import SoftmaxCrossEntropy
from ablations.nn.network import Network
from ablations.nn.normalization import Normalization
from ablations.training import loop
from ablations.training.loop import DivergedError, Epoch, Step, evaluate, gradient, train
from ablations.training.optimizers import SDLM, SGD, Optimizer
from ablations.training.recipe import Images, Options, Recipe, assemble
from ablations.training.streams import Streams

PLAIN = Options(epochs=2, batch_size=16, clip_norm=None, replacement=False, eval_limit=None)
UNIT = Normalization(offset=-0.1, scale=1.275 / 255)  # 1998's, so that a forgotten border would show


class Spy(Optimizer):
    """Moves nothing and writes down what it was asked to do."""

    def __init__(self) -> None:
        super().__init__(1.0, weight_decay=0)
        self.epochs, self.shares, self.grads = [], [], []

    def begin_epoch(self, epoch, share):
        self.epochs.append(epoch)
        self.shares.append(share)

    def _update(self, values, grads, scratch):
        self.grads.append(grads.copy())


class Recorder(Normalization):
    """Writes down which images were asked for; the first pixel of image i is i."""

    def fill(self, pixels, out):
        Recorder.batches.append(pixels[:, 0, 0].tolist())
        super().fill(pixels, out)


@pytest.fixture
def recorder():
    Recorder.batches = []
    return Recorder(UNIT.offset, UNIT.scale)


@pytest.fixture(scope="module")
def digits(compose) -> Images:
    data = hydra.utils.instantiate(compose("dataset=digits").dataset).load()
    return Images(data.train_images, data.train_labels)


@pytest.fixture(scope="module")
def small(digits) -> Images:
    return numbered(digits, 40)


def numbered(digits: Images, count: int) -> Images:
    """The first images, the first pixel of each its number, the second how often that went beyond 255."""
    images = Images(digits.pixels[:count].copy(), digits.labels[:count])
    images.pixels[:, 0, 1], images.pixels[:, 0, 0] = np.divmod(np.arange(count), 256)
    return images


def as_input(pixels: np.ndarray, dtype: str = "float64") -> np.ndarray:
    """Images (1, 32, 32, n) by 1998's normalisation, one pixel after another."""
    x = np.full((1, 32, 32, len(pixels)), -0.1, dtype)
    for i, image in enumerate(pixels):
        x[0, 2:30, 2:30, i] = image / 255 * 1.275 - 0.1
    return x


def order(seed: int = 0) -> np.random.Generator:
    return Streams(seed).generator("order")


def trained(
    network,
    images,
    options=PLAIN,
    optimizer=None,
    validation=None,
    seed=0,
    watch=None,
    by=UNIT,
):
    recipe = Recipe(network, optimizer or SGD(0.1, 0), by, images, validation, Streams(seed), options)
    return list(train(recipe, watch or (lambda step: None)))


# The loop


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_same_seed_same_bits(dtype, build, compose, small):
    def weights(seed: int) -> np.ndarray:
        network = build(f"trainer.dtype={dtype}", seed=0)
        optimizer = hydra.utils.instantiate(compose().optimizer)
        trained(network, small, optimizer=optimizer, validation=small, seed=seed)
        return network.values

    first = weights(0)
    assert first.dtype == dtype
    assert first.tobytes() == weights(0).tobytes()
    assert first.tobytes() != weights(1).tobytes()


@pytest.mark.parametrize("head", ["softmax", "mse"])
def test_records_are_those_of_a_training_written_out(head, build, small, digits):
    validation = Images(digits.pixels[100:150], digits.labels[100:150])
    network, plain = (build(f"head={head}", "pool=avg") for _ in range(2))
    start = network.values.copy()
    steps: list[Step] = []
    records = trained(
        network, small, replace(PLAIN, epochs=3), SGD([0.1, 0.02], 0), validation, watch=steps.append
    )

    rng, expected_steps = order(), []
    for number, (record, rate) in enumerate(zip(records, (0.1, 0.02, 0.02), strict=True), 1):
        permutation, losses, hits, largest = rng.permutation(40), [], [], 0.0
        for batch in (permutation[:16], permutation[16:32], permutation[32:]):  # the last one of eight
            outputs = plain.forward(as_input(small.pixels[batch]))
            batch_losses, doutputs = plain.loss(outputs, small.labels[batch])
            batch_hits = outputs.argmax(axis=0) == small.labels[batch]
            plain.backward(doutputs)
            grad_max = np.abs(plain.grads).max()
            expected_steps.append((batch_losses.mean(), batch_hits.mean(), grad_max))
            losses.extend(batch_losses)
            hits.extend(batch_hits)
            largest = max(largest, grad_max)
            plain.values -= rate * plain.grads
        outputs = plain.forward(as_input(validation.pixels))
        assert isinstance(record, Epoch)
        assert record.optimizer == {}
        assert {type(value) for name, value in vars(record).items() if name != "optimizer"} == {int, float}
        assert record.number == number
        assert len(losses) == 40
        assert record.train_loss == pytest.approx(np.mean(losses), rel=1e-9)
        assert record.train_accuracy == np.mean(hits)
        assert record.grad_max_abs == pytest.approx(largest, rel=1e-9)
        assert record.val_loss == pytest.approx(plain.loss(outputs, validation.labels)[0].mean(), rel=1e-9)
        assert record.val_accuracy == np.mean(outputs.argmax(axis=0) == validation.labels)
        assert record.seconds > 0
        assert record.images_per_s == pytest.approx(40 / record.seconds)
    assert np.abs(network.values - start).max() > 0.01
    np.testing.assert_allclose(network.values, plain.values, rtol=1e-9, atol=1e-12)

    assert [step.number for step in steps] == list(range(1, 10))
    for step, (loss, accuracy, grad_max) in zip(steps, expected_steps, strict=True):
        assert step.loss == pytest.approx(loss, rel=1e-9)
        assert step.accuracy == accuracy
        assert step.grad_max_abs == pytest.approx(grad_max, rel=1e-9)


def test_largest_gradient_may_be_negative(build, small):
    network = build()
    network.loss = Rigged(lambda gradient: gradient.fill(-1))  # pushes every output up
    steps = []
    trained(network, small, replace(PLAIN, epochs=1), Spy(), watch=steps.append)
    for step in steps:
        assert step.grad_max_abs > 0
    spy = Spy()
    records = trained(network, small, replace(PLAIN, epochs=1), spy)
    assert records[0].grad_max_abs == max(np.abs(grads).max() for grads in spy.grads)


def test_records_are_frozen(build, small):
    (record,) = trained(build(), small, replace(PLAIN, epochs=1))
    with pytest.raises(FrozenInstanceError):
        record.train_loss = 0


def test_records_come_one_by_one(build, small):
    """The second epoch is trained when it is asked for, and not before."""
    network = build()
    records = train(Recipe(network, SGD(0.1, 0), UNIT, small, None, Streams(0), PLAIN))
    next(records)
    after_first = network.values.copy()
    np.testing.assert_array_equal(network.values, after_first)
    assert next(records).number == 2
    assert (network.values != after_first).any()
    assert next(records, None) is None


def test_each_epoch_sees_every_image_once(build, small, recorder):
    spy = Spy()
    trained(build(), small, replace(PLAIN, epochs=3), spy, by=recorder)
    assert [len(batch) for batch in recorder.batches] == [16, 16, 8] * 3
    passes = [list(chain(*recorder.batches[at : at + 3])) for at in (0, 3, 6)]
    assert all(sorted(images) == list(range(40)) for images in passes)
    assert passes[0] != passes[1] != passes[2] != passes[0]
    assert spy.epochs == [1, 2, 3]
    assert spy.steps == 9


def test_order_depends_on_the_seed_alone(build, small, recorder):
    def batches(network, seed):
        Recorder.batches = []
        trained(network, small, optimizer=Spy(), seed=seed, by=recorder)
        return Recorder.batches

    first = batches(build("pool=max", seed=1), 3)
    assert first == batches(build("pool=avg", "head=mse", "c3=sparse", seed=2), 3)
    assert first != batches(build(seed=1), 4)


def test_replacement_draws_as_many_images_as_there_are(build, small, recorder):
    trained(build(), small, replace(PLAIN, replacement=True), Spy(), by=recorder)
    assert [len(batch) for batch in recorder.batches] == [16, 16, 8] * 2
    one, two = (list(chain(*recorder.batches[at : at + 3])) for at in (0, 3))
    rng = order()
    assert one == rng.integers(40, size=40).tolist()
    assert two == rng.integers(40, size=40).tolist()
    assert len(set(one)) < 40


def test_whole_set_as_one_batch(build, small, recorder):
    trained(build(), small, replace(PLAIN, batch_size=40, epochs=1), Spy(), by=recorder)
    assert sorted(chain(*recorder.batches)) == list(range(40))


@pytest.mark.parametrize("size", [1, 31, 32, 33, 64, 100])
def test_the_parts_of_a_large_batch_add_up_to_its_gradient(size, build, digits):
    network = build("trainer.dtype=float64")
    feed = Feeder(network, UNIT)
    batch = np.random.default_rng(size).permutation(len(digits))[:size]
    images, labels = digits.pixels[batch], digits.labels[batch]
    outputs = network.forward(feed(images)).copy()
    losses, doutputs = network.loss(outputs, labels)
    network.backward(doutputs)
    whole = network.grads.copy()
    network.grads[...] = np.nan
    loss, hits = gradient(network, feed, images, labels)
    np.testing.assert_allclose(network.grads, whole, rtol=1e-10, atol=1e-15)
    assert loss == pytest.approx(losses.sum(), rel=1e-12)
    assert hits == np.count_nonzero(outputs.argmax(axis=0) == labels)


def test_clipping_scales_a_long_gradient_down(build, small):
    network, free, clipped = build(), Spy(), Spy()
    (record,) = trained(network, small, replace(PLAIN, epochs=1), free)
    lengths = [np.sqrt((grads**2).sum()) for grads in free.grads]
    limit = sorted(lengths)[1]  # some are longer, some are not
    (again,) = trained(network, small, replace(PLAIN, epochs=1, clip_norm=limit * 0.999), clipped)
    shortened = 0
    for before, after, length in zip(free.grads, clipped.grads, lengths, strict=True):
        if length > limit * 0.999:
            assert np.sqrt((after**2).sum()) == pytest.approx(limit * 0.999, rel=1e-9)
            np.testing.assert_allclose(after, before * limit * 0.999 / length, rtol=1e-9, atol=1e-15)
            shortened += 1
        else:
            np.testing.assert_array_equal(after, before)
    assert shortened == 2
    assert again.grad_max_abs == record.grad_max_abs, "the largest gradient is that before clipping"


def test_validation_is_limited_and_optional(build, small, digits, recorder):
    validation = Images(digits.pixels[:300], digits.labels[:300])
    network = build()
    options = replace(PLAIN, epochs=1, eval_limit=7)
    (record,) = trained(network, small, options, Spy(), validation, by=recorder)
    assert [len(batch) for batch in recorder.batches] == [16, 16, 8, 7]
    first = Images(validation.pixels[:7], validation.labels[:7])
    scored = evaluate(network, UNIT, first)
    assert (record.val_loss, record.val_accuracy) == (scored.loss, scored.accuracy)
    assert record.val_accuracy * 7 == pytest.approx(round(record.val_accuracy * 7))

    for limit in (300, 1000, None):
        (record,) = trained(network, small, replace(options, eval_limit=limit), Spy(), validation)
        scored = evaluate(network, UNIT, validation)
        assert (record.val_loss, record.val_accuracy) == (scored.loss, scored.accuracy)

    (record,) = trained(network, small, options, Spy(), None)
    assert record.val_loss is record.val_accuracy is None


def test_validation_does_not_touch_the_training(build, small, digits):
    with_validation, without = build(), build()
    trained(with_validation, small, validation=Images(digits.pixels[:200], digits.labels[:200]))
    trained(without, small)
    np.testing.assert_array_equal(with_validation.values, without.values)


def test_an_accuracy_of_zero_is_a_number(build, small):
    """None stands for no validation, 0 for validation without a hit."""
    network = build()
    network.values[...] = 0  # every answer is class 0
    validation = Images(small.pixels[small.labels != 0], small.labels[small.labels != 0])
    (record,) = trained(network, small, replace(PLAIN, epochs=1), Spy(), validation)
    assert record.val_accuracy == 0.0
    assert record.val_loss == pytest.approx(np.log(10))


def test_learns_twenty_digits_by_heart(activation, pool, head, build, compose, digits):
    twenty = Images(digits.pixels[:20], digits.labels[:20])
    choices = [f"activation={activation}", f"pool={pool}", f"head={head}", "init=xavier"]
    choices += ["head.loss.j=20"] * (head == "rbf")  # the farther up the others are pushed, the quicker
    network = build("trainer.dtype=float32", *choices)
    optimizer = hydra.utils.instantiate({**compose("optimizer=adam").optimizer, "lr": 0.003})
    options = replace(PLAIN, epochs=2000, batch_size=20)  # the longest is six sigmoids deep
    for record in train(Recipe(network, optimizer, UNIT, twenty, None, Streams(0), options)):
        if record.train_accuracy == 1:
            break
    assert record.train_accuracy == 1, f"after {record.number} epochs: {record.train_accuracy:.0%}"
    assert np.unique(twenty.labels).size == 10


# Curvature


@pytest.fixture
def estimates(monkeypatch):
    """Each estimate of a curvature, and each batch, in order: ("curvature" or "batch", number of each image)."""
    seen = []

    def spy(kind, function):
        def called(network, feed, images, *rest):
            seen.append((kind, (images[:, 0, :2] @ [1, 256]).tolist()))
            return function(network, feed, images, *rest)

        return called

    monkeypatch.setattr(loop, "curvature", spy("curvature", loop.curvature))
    monkeypatch.setattr(loop, "gradient", spy("batch", loop.gradient))
    return seen


SDLM_1998 = {"lr": [5e-4, 2e-4], "mu": 0.02, "samples": 500, "refresh_every": 500, "refresh_samples": 100}


def when(seen):
    """(batches before it, number of images) of each estimate."""
    batches = 0
    for kind, indices in seen:
        if kind == "curvature":
            assert len(set(indices)) == len(indices), "drawn without replacement"
            yield batches, len(indices)
        batches += kind == "batch"


@pytest.mark.parametrize(
    ("batch_size", "refresh_every", "expected_at"),
    [
        (10, 500, [(0, 500), (50, 100), (100, 100), (120, 500), (240, 500)]),
        (8, 500, [(0, 500), (63, 100), (125, 100), (150, 500), (300, 500)]),
        (10, None, [(0, 500), (120, 500), (240, 500)]),
    ],
)
def test_curvature_is_estimated_before_each_pass_and_along_the_first(
    batch_size, refresh_every, expected_at, build, digits, estimates, monkeypatch
):
    monkeypatch.setattr(Network, "curvature", lambda network, x: network.curvatures.fill(0))
    network = build("trainer.dtype=float32")
    images = numbered(digits, 1200)
    rule = SDLM(**{**SDLM_1998, "lr": 1e-9, "refresh_every": refresh_every})
    trained(network, images, replace(PLAIN, epochs=3, batch_size=batch_size), rule)
    assert list(when(estimates)) == expected_at
    drawn = [indices for kind, indices in estimates if kind == "curvature"]
    assert all(one != other for one, other in pairwise(drawn))
    assert set(drawn[0]) - set(range(500)), "from all images, not the first"


def test_curvature_of_a_set_smaller_than_the_samples_is_that_of_all(build, small, estimates):
    trained(build(), small, PLAIN, SDLM(**SDLM_1998))
    drawn = [indices for kind, indices in estimates if kind == "curvature"]
    assert [sorted(indices) for indices in drawn] == [list(range(40))] * 2


def test_samples_for_the_curvature_do_not_change_the_order(build, small, estimates):
    trained(build(), small, PLAIN, Spy())
    plain = list(estimates)
    estimates.clear()
    trained(
        build(), small, PLAIN, SDLM(**{**SDLM_1998, "samples": 7, "refresh_every": 16, "refresh_samples": 3})
    )
    assert [kind for kind, _ in estimates].count("curvature") == 4
    assert [entry for entry in estimates if entry[0] == "batch"] == plain


@pytest.mark.parametrize("batch_size", [1, 16])
def test_sdlm_is_the_update_written_out(batch_size, build, small):
    choices = [
        "activation=scaled_tanh",
        "pool=subsample",
        "c3=sparse",
        "head=rbf",
        "head.loss.j=1",
        "init=lecun",
    ]
    network, plain = build(*choices), build(*choices)
    start = network.values.copy()
    rule = SDLM(lr=[5e-4, 2e-4], mu=0.02, samples=12, refresh_every=16, refresh_samples=5)
    records = trained(network, small, replace(PLAIN, batch_size=batch_size), rule)

    order_rng, curvature_rng = order(), Streams(0).generator("curvature")
    for epoch, (record, lr) in enumerate(zip(records, (5e-4, 2e-4), strict=True), 1):
        permutation = order_rng.permutation(40)
        for at in range(0, 40, batch_size):
            samples = 12 if at == 0 else 5 if epoch == 1 and at in (16, 32) else None
            if samples:
                chosen, total = curvature_rng.choice(40, samples, replace=False), 0
                for index in chosen:
                    plain.curvature(as_input(small.pixels[index : index + 1]))
                    total = total + plain.curvatures
                rates = lr / (0.02 + total / samples)
            batch = permutation[at : at + batch_size]
            outputs = plain.forward(as_input(small.pixels[batch]))
            plain.backward(plain.loss(outputs, small.labels[batch])[1])
            plain.values -= rates * plain.grads
        assert record.optimizer == pytest.approx(
            {"rate_min": rates.min(), "rate_median": np.median(rates), "rate_max": rates.max()}, rel=1e-6
        )
        assert {type(rate) for rate in record.optimizer.values()} == {float}
    assert np.abs(network.values - start).max() > 0.001
    np.testing.assert_allclose(network.values, plain.values, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize(
    ("epochs", "shares"), [(1, [1]), (2, [1, 0.5]), (3, [1, 0.75, 0.25]), (4, [1, 0.8535534, 0.5, 0.1464466])]
)
def test_a_cosine_takes_the_rate_down_from_epoch_to_epoch(epochs, shares, build, small):
    """(1 + cos(π (e − 1) / E)) / 2, worked out by hand."""
    spy = Spy()
    trained(build(), small, replace(PLAIN, epochs=epochs, schedule="cosine"), spy)
    assert spy.shares == pytest.approx(shares)
    without = Spy()
    trained(build(), small, replace(PLAIN, epochs=epochs), without)
    assert without.shares == [1] * epochs


# What it refuses


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": 0}, r"^trainer\.epochs: must be at least 1, got 0$"),
        ({"epochs": -3}, r"^trainer\.epochs: must be at least 1, got -3$"),
        ({"batch_size": 0}, r"^trainer\.batch_size: must be at least 1, got 0$"),
        ({"eval_limit": 0}, r"^trainer\.eval_limit: must be at least 1, got 0$"),
        ({"clip_norm": -1.0}, r"^trainer\.clip_norm: must be positive or null, got -1\.0$"),
        ({"clip_norm": 0.0}, r"^trainer\.clip_norm: must be positive or null, got 0\.0$"),
        ({"clip_norm": float("nan")}, r"^trainer\.clip_norm: must be positive or null, got nan$"),
        ({"schedule": "linear"}, r"^trainer\.schedule: accepted: cosine or null, got linear$"),
    ],
)
def test_options_that_make_no_sense_are_refused(change, message):
    with pytest.raises(InputError, match=message):
        replace(PLAIN, **change)


def test_batch_larger_than_the_set_is_refused(build, small):
    with pytest.raises(InputError, match=r"^trainer\.batch_size: there are only 40 training images, got 41$"):
        trained(build(), small, replace(PLAIN, batch_size=41))


# Divergence


class Rigged(SoftmaxCrossEntropy):
    """A loss whose gradient is spoilt."""

    def __init__(self, spoil, losses=None):
        self.spoil, self.losses = spoil, losses

    def __call__(self, outputs, labels):
        losses, gradient = super().__call__(outputs, labels)
        self.spoil(gradient)
        return losses if self.losses is None else np.full_like(losses, self.losses), gradient


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_divergence_ends_the_training_with_finite_weights(dtype, build, small):
    network = build("head=mse", f"trainer.dtype={dtype}")
    message = r"^diverged: (the loss|a gradient) is not finite at step \d+ \(epoch \d+\)$"
    with pytest.raises(DivergedError, match=message) as error:
        trained(network, small, replace(PLAIN, epochs=50), SGD(1e6, 0))
    assert np.isfinite(network.values).all()
    assert isinstance(error.value, PlainError)
    assert isinstance(error.value, ArithmeticError)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", ["loss", "gradient"])
@pytest.mark.parametrize("clip_norm", [None, 1.0])
def test_nothing_that_is_not_finite_reaches_the_weights(where, value, clip_norm, build, small):
    network, spy = build(), Spy()
    if where == "loss":
        network.loss, message = Rigged(lambda gradient: None, value), "the loss is not finite at step 1 "
    else:
        network.loss, message = (
            Rigged(lambda gradient: gradient.fill(value)),
            "a gradient is not finite at step 1 ",
        )
    steps = []
    with pytest.raises(DivergedError, match=message + r"\(epoch 1\)"):
        trained(network, small, replace(PLAIN, clip_norm=clip_norm), spy, watch=steps.append)
    assert spy.grads == []
    assert steps == []


# Evaluation


@pytest.mark.parametrize("count", [1, 127, 128, 129, 300])
@pytest.mark.parametrize("head", ["softmax", "mse"])
def test_evaluation_is_that_of_all_images_at_once(head, count, build, digits):
    network = build(f"head={head}", "activation=tanh", "pool=avg")
    images = Images(digits.pixels[:count], digits.labels[:count])
    scored = evaluate(network, UNIT, images)
    outputs = network.forward(as_input(images.pixels))
    answers = [int(np.argmax(outputs[:, i])) for i in range(count)]
    assert scored.loss == pytest.approx(network.loss(outputs, images.labels)[0].mean(), rel=1e-9)
    assert scored.accuracy == sum(a == b for a, b in zip(answers, images.labels, strict=True)) / count
    assert scored.predictions.tolist() == answers
    np.testing.assert_allclose(scored.confidences, network.loss.probabilities(outputs).max(axis=0), rtol=1e-6)
    further = network.loss.further_metrics(outputs, images.labels)
    assert (
        set(scored.further)
        == set(further)
        == {"mse": {"softmax_loss", "softmax_confidence"}}.get(head, set())
    )
    for name, values in further.items():
        assert scored.further[name] == pytest.approx(values.mean(), rel=1e-9)
    assert len(set(answers)) > 1 or count == 1


def test_evaluation_changes_nothing(build, small):
    network = build()
    before = network.values.copy()
    one, two = evaluate(network, UNIT, small), evaluate(network, UNIT, small)
    assert one.loss == two.loss
    np.testing.assert_array_equal(network.values, before)


# Random streams


def test_streams_are_independent_by_purpose_and_seed():
    purposes = ["split", "order", "init/C1", "init/C3", "init/C5", "init/F6", "init/output"]
    draws = [Streams(seed).generator(purpose).random(1000) for seed in range(4) for purpose in purposes]
    correlations = np.corrcoef(draws) - np.eye(len(draws))
    assert np.abs(correlations).max() < 0.15  # 4.7 standard deviations


def test_a_stream_starts_at_its_beginning_each_time():
    streams = Streams(3)
    first = streams.generator("order").random(5)
    streams.generator("split").random(100)
    np.testing.assert_array_equal(streams.generator("order").random(5), first)
    np.testing.assert_array_equal(Streams(3).generator("order").random(5), first)
    # The same on every machine and for ever: published numbers depend on it.
    assert Streams(0).generator("order").permutation(8).tolist() == [3, 0, 7, 1, 5, 2, 4, 6]


def test_fingerprint_tells_splits_and_seeds_apart_and_nothing_else():
    def fingerprint(seed=0, train=(0, 1, 2), validation=(3, 4), layers=("C1", "C3"), dtype=np.int64):
        return Streams(seed).fingerprint(np.array(train, dtype), np.array(validation, dtype), list(layers))

    first = fingerprint()
    assert len(first) == 16
    assert int(first, 16) >= 0
    assert fingerprint() == first
    assert fingerprint(dtype=np.int32) == first
    different = [
        fingerprint(seed=1),
        fingerprint(train=(0, 1, 3), validation=(2, 4)),
        fingerprint(train=(0, 1, 2, 3), validation=(4,)),
        fingerprint(validation=()),
        fingerprint(train=(2, 1, 0)),
        fingerprint(layers=("C1", "C5")),
    ]
    assert len({first, *different}) == 7
    used = Streams(0)
    used.generator("order").random(10)
    assert used.fingerprint(np.array([0, 1, 2]), np.array([3, 4]), ["C1", "C3"]) == first


def test_fingerprint_of_a_run_is_the_same_for_every_variant(compose):
    def stream(*overrides):
        return assemble(compose("dataset=digits", *overrides)).stream

    first = stream()
    variant = ["activation=tanh", "pool=avg", "c3=sparse", "head=mse", "init=lecun", "optimizer=sgd"]
    others = ["normalization=lecun1998", "trainer.epochs=3", "trainer.batch_size=8", "trainer.dtype=float64"]
    assert stream(*variant, *others) == first
    assert stream("dataset.train_images=100") == first  # of the split, which is the same
    assert stream("seed=1") != first
    assert stream("dataset.val_fraction=0.3") != first


def test_fewer_training_images_are_part_of_more_and_leave_the_rest_of_a_run_as_it_is(compose):
    def images(*overrides):
        found = assemble(compose("dataset=digits", *overrides))
        assert found.sizes["dataset.train_images"] == len(found.training)
        return {image.tobytes() for image in found.training.pixels}, found

    few, of_few = images("dataset.train_images=100")
    more, _ = images("dataset.train_images=300")
    everything, of_all = images()
    assert few < more < everything
    assert np.bincount(of_few.training.labels).tolist() == pytest.approx(10 * [10], abs=1)
    for part in ("validation", "test"):
        np.testing.assert_array_equal(getattr(of_few, part).pixels, getattr(of_all, part).pixels)
    assert of_few.dataset.sha256 == of_all.dataset.sha256
    _, named = images("dataset.train_images=1149")
    np.testing.assert_array_equal(named.training.pixels, of_all.training.pixels)
    np.testing.assert_array_equal(named.training.labels, of_all.training.labels)


def test_where_nothing_validates_all_seeds_train_on_the_same_images(compose):
    held = ("dataset=digits", "dataset.val_fraction=0", "dataset.train_images=50")
    first, second = (assemble(compose(*held, f"seed={seed}")).training for seed in (0, 1))
    np.testing.assert_array_equal(first.pixels, second.pixels)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_divergence_in_the_last_step_is_found_by_the_evaluation(build, small):
    network = build("trainer.dtype=float32")
    trained(network, small, replace(PLAIN, epochs=1, batch_size=len(small)), SGD(1e30, 0))
    with pytest.raises(DivergedError, match="not finite after training"):
        evaluate(network, UNIT, small)
