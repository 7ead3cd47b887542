"""A training that goes on from a file, to the last bit; files that are no checkpoints; who may train."""

import io
import json
import signal
import subprocess
import sys
import time
import zipfile
from dataclasses import replace
from pathlib import Path

import hydra
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from project import PATIENCE_S

from ablations.errors import InputError
from ablations.experiment import checkpoints
from ablations.experiment.checkpoints import (
    BEFORE,
    LAST,
    Checkpoint,
    CheckpointError,
    Checkpoints,
    Measured,
    read,
    write,
)
from ablations.experiment.lease import LOCK, Holder, leased
from ablations.ground.paths import ROOT
from ablations.nn.normalization import Normalization
from ablations.training.loop import State, train
from ablations.training.optimizers import SGD
from ablations.training.recipe import Images, Options, Recipe
from ablations.training.streams import Streams

UNIT = Normalization(offset=0.0, scale=1 / 255)
IDENTITY = {"config_hash": "c", "code_hash": "k", "data_sha256": "d"}


@pytest.fixture(scope="module")
def images(compose) -> Images:
    data = hydra.utils.instantiate(compose("dataset=digits").dataset).load()
    return Images(data.train_images[:72], data.train_labels[:72])


def a_state(size: int = 5, epoch: int = 2) -> State:
    values = np.linspace(-1, 1, size, dtype=np.float32)
    streams = {name: Streams(3).generator(name).bit_generator.state for name in ("order", "curvature")}
    return State(epoch, 7 * epoch, values, {"mean": values / 3, "mean_square": values**2}, streams)


def a_checkpoint(**changes: object) -> Checkpoint:
    measured = [
        Measured({"train/loss": 0.1 + 0.2, "val/loss": float("inf")}, 1, 1_700_000_000_123),
        Measured({"train/loss": 1e-300, "val/loss": -0.0}, 2, 1_700_000_000_456),
    ]
    return replace(Checkpoint(IDENTITY, "a run", a_state(), measured), **changes)


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / LAST


# Going on


@pytest.mark.parametrize(
    "choices", [(), ("norm=batch", "dropout.rate=0.4")], ids=["plain", "norm and dropout"]
)
@pytest.mark.parametrize("replacement", [False, True])
@pytest.mark.parametrize("distortion", ["none", "planar"])
def test_a_training_that_goes_on_ends_with_the_same_bits(
    optimizer, distortion, replacement, choices, build, compose, images, path
):
    """From the file that each epoch left, in a new network with a new optimizer."""
    if choices and (optimizer == "sdlm" or replacement):
        pytest.skip("no second derivatives; nothing more to see")
    options = Options(epochs=3, batch_size=16, clip_norm=1.0, replacement=replacement, eval_limit=None)

    def begin(seed: int = 5, **more: object):
        config = compose(f"optimizer={optimizer}", f"distortion={distortion}", "trainer.dtype=float32")
        network = build("trainer.dtype=float32", *choices, seed=seed)
        rule = hydra.utils.instantiate(config.optimizer)
        distort = hydra.utils.instantiate(config.distortion) or None
        recipe = Recipe(network, rule, UNIT, images, images, Streams(5), options, distort)
        return network, rule, train(recipe, **more)

    saved = []

    def keep(state: State) -> None:
        write(path, Checkpoint(IDENTITY, "", state, []))
        saved.append(read(path, IDENTITY).state)

    network, rule, records = begin(keep=keep)
    whole = [replace(record, seconds=0, images_per_s=0) for record in records]
    assert [state.epoch for state in saved] == [1, 2, 3]
    for state in saved:
        # Other initial weights, so that a parameter that is not restored shows.
        again, its_rule, records = begin(seed=6, resume=state)
        rest = [replace(record, seconds=0, images_per_s=0) for record in records]
        assert rest == whole[state.epoch :]
        assert again.values.tobytes() == network.values.tobytes()
        for name, array in network.state().items():
            assert again.state()[name].tobytes() == array.tobytes(), name
        assert its_rule.steps == rule.steps == 3 * 5
        for name, vector in rule.state.items():
            assert its_rule.state[name].tobytes() == vector.tobytes()


def test_a_state_is_kept_once_the_record_was_taken(build, images):
    seen = []
    options = Options(epochs=2, batch_size=72, clip_norm=None, replacement=False, eval_limit=None)
    recipe = Recipe(build(), SGD(0.1, 0), UNIT, images, None, Streams(0), options)
    for record in train(recipe, keep=lambda state: seen.append(state.epoch)):
        assert seen == list(range(1, record.number))
        seen_before = len(seen)
    assert len(seen) == seen_before + 1 == 2


@pytest.mark.parametrize(
    "change",
    [
        lambda state: {"values": state.values[:-1]},
        lambda state: {"values": state.values.astype("float32")},
        lambda state: {"memory": {"velocity": state.values}},
        lambda state: {"streams": {}},
        lambda state: {"statistics": {"C1.norm.mean": state.values[:6, None]}},
    ],
)
def test_the_state_of_another_training_is_refused(change, build, images):
    options = Options(epochs=2, batch_size=72, clip_norm=None, replacement=False, eval_limit=None)
    states, recipe = [], Recipe(build(), SGD(0.1, 0), UNIT, images, None, Streams(0), options)
    list(train(recipe, keep=states.append))
    foreign = replace(states[0], **change(states[0]))
    with pytest.raises(InputError):
        list(train(recipe, resume=foreign))


# The file


def test_what_is_written_is_read(path):
    written = a_checkpoint()
    write(path, written)
    found = read(path, IDENTITY)
    assert (found.identity, found.run_id, found.measured) == (IDENTITY, "a run", written.measured)
    state, given = found.state, written.state
    assert (state.epoch, state.steps, state.streams) == (given.epoch, given.steps, given.streams)
    assert state.values.dtype == np.float32
    assert state.values.tobytes() == given.values.tobytes()
    assert {name: vector.tobytes() for name, vector in state.memory.items()} == {
        name: vector.tobytes() for name, vector in given.memory.items()
    }


def test_numpy_reads_it_without_pickle(path):
    write(path, a_checkpoint())
    with np.load(path, allow_pickle=False) as arrays:
        assert set(arrays) == {"header", "values", "memory.mean", "memory.mean_square", "sha256"}
        assert json.loads(arrays["header"].tobytes())["epoch"] == 2


def test_the_one_before_is_kept_and_used(tmp_path):
    with leased(tmp_path / "run", pytest.fail) as lease:
        kept = Checkpoints(lease.folder)
        assert kept.latest(IDENTITY) == (None, [])
        for epoch in (1, 2, 3):
            assert kept.save(a_checkpoint(state=a_state(epoch=epoch)), must=True)
        assert sorted(file.name for file in kept.folder.iterdir()) == sorted([LAST, BEFORE, LOCK])
        found, complaints = kept.latest(IDENTITY)
        assert (found.state.epoch, complaints) == (3, [])
        whole = (kept.folder / LAST).read_bytes()
        (kept.folder / LAST).write_bytes(whole[: len(whole) // 2])
        found, complaints = kept.latest(IDENTITY)
        assert found.state.epoch == 2
        assert complaints[0].startswith(f"{kept.folder / LAST} is no checkpoint to go on from: ")
        (kept.folder / BEFORE).write_bytes(b"")
        found, complaints = kept.latest(IDENTITY)
        assert found is None
        assert len(complaints) == 2
        kept.remove()
    assert not (tmp_path / "run").exists()


def test_a_lease_that_leaves_checkpoints_keeps_its_folder(tmp_path):
    with leased(tmp_path, pytest.fail) as lease:
        kept = Checkpoints(lease.folder)
        kept.save(a_checkpoint(), must=True)
    with leased(tmp_path, pytest.fail) as lease:
        kept = Checkpoints(lease.folder)
        assert kept.latest(IDENTITY)[0].run_id == "a run"


def test_checkpoints_take_a_small_share_of_the_time(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(checkpoints.time, "monotonic", lambda: now[0])

    def slow(path: Path, checkpoint: Checkpoint) -> None:
        now[0] += 1.0

    monkeypatch.setattr(checkpoints, "write", slow)
    with leased(tmp_path, pytest.fail) as lease:
        kept = Checkpoints(lease.folder)
        written = []
        for _ in range(100):
            now[0] += 5.0  # an epoch
            written.append(kept.save(a_checkpoint(), must=False))
        assert written[0]
        assert sum(written) == 25  # 1 s each, every fourth epoch of 5 s: one in 20 s
        assert kept.save(a_checkpoint(), must=True)


@pytest.mark.parametrize("key", IDENTITY)
def test_that_of_another_configuration_code_or_data_is_refused(key, path):
    write(path, a_checkpoint())
    with pytest.raises(CheckpointError, match="another configuration, other data or other code"):
        read(path, IDENTITY | {key: "another"})


def test_no_file_is_no_checkpoint(path):
    with pytest.raises(CheckpointError):
        read(path, IDENTITY)


def test_every_truncation_is_refused(path):
    write(path, a_checkpoint())
    whole = path.read_bytes()
    for length in range(0, len(whole), 3):
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointError):
            read(path, IDENTITY)


def entries(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.fixture(scope="module")
def good(tmp_path_factory) -> bytes:
    path = tmp_path_factory.mktemp("good") / LAST
    write(path, a_checkpoint())
    return path.read_bytes()


@pytest.fixture(scope="module")
def target(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("malformed") / LAST


def refused_or_whole(path: Path, data: bytes, good: bytes) -> None:
    """A change may hit what does not matter, as a time stamp of the archive: then all that was written is read."""
    path.write_bytes(data)
    try:
        found = read(path, IDENTITY)
    except CheckpointError as error:
        refusal = str(error)
    else:
        path.write_bytes(good)
        expected = read(path, IDENTITY)
        assert (found.measured, found.run_id) == (expected.measured, expected.run_id)
        assert found.state.values.tobytes() == expected.state.values.tobytes()
        assert found.state.streams == expected.state.streams
        return
    assert "\n" not in refusal
    assert len(refusal) < len(str(path)) + 300


@settings(max_examples=700)
@given(st.data())
def test_flipped_bytes_are_refused(good, target, data):
    changed = bytearray(good)
    for _ in range(data.draw(st.integers(1, 4))):
        changed[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    refused_or_whole(target, bytes(changed), good)


@settings(max_examples=500)
@given(data=st.binary(max_size=300), keep=st.integers(0, 200), at_end=st.booleans())
@example(data=b"PK\x05\x06" + bytes(18), keep=0, at_end=False)  # an empty archive
def test_any_bytes_are_refused(good, target, data, keep, at_end):
    changed = data + good[len(good) - keep :] if at_end else good[:keep] + data
    refused_or_whole(target, changed, good)


NPY = st.one_of(
    st.binary(max_size=80),
    st.builds(
        lambda descr, shape, order, body: (
            lambda header: b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + body
        )(repr({"descr": descr, "fortran_order": order, "shape": shape}).encode()),
        descr=st.sampled_from(
            ["|u1", "<f4", "<f8", "|O", "<M8[s]", "|S3", "<U2", [("a", "<i4")], "nonsense", 3]
        ),
        shape=st.one_of(
            st.tuples(),
            st.tuples(st.integers(-3, 2**62)),
            st.tuples(st.integers(0, 2**40), st.integers(0, 2**40)),
            st.just("x"),
        ),
        order=st.sampled_from([True, False, 1, None]),
        body=st.binary(max_size=40),
    ),
)


@settings(max_examples=500)
@given(
    st.dictionaries(
        st.sampled_from(["header", "values", "memory.mean", "sha256", "x", "../x", ""]), NPY, max_size=4
    ),
    st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA]),
)
def test_archives_of_other_arrays_are_refused(good, target, parts, compression):
    """Also such as claim 2⁶² elements: nothing of that size is ever allocated."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, data in {k.removesuffix(".npy"): v for k, v in entries(good).items()}.items():
            archive.writestr(f"{name}.npy", parts.get(name, data))
        for name in parts.keys() - {"header", "values", "memory.mean", "sha256"}:
            archive.writestr(f"{name}.npy", parts[name])
    refused_or_whole(target, buffer.getvalue(), good)


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)


@settings(max_examples=500)
@given(
    key=st.sampled_from(["format", "identity", "run_id", "epoch", "steps", "streams", "measured", "state"]),
    value=JSON,
    drop=st.booleans(),
)
def test_a_right_checksum_does_not_make_a_checkpoint(good, target, key, value, drop):
    """A header of the wrong kind, signed as it should be: refused, or of the types that a checkpoint has."""
    target.write_bytes(good)
    with np.load(target, allow_pickle=False) as file:
        arrays = {name: file[name] for name in file if name != "sha256"}
    header = json.loads(arrays["header"].tobytes())
    if key == "state":
        header["streams"]["order"]["state"] = value
    else:
        header[key] = value
    if drop:
        del header["streams" if key == "state" else key]
    arrays["header"] = np.frombuffer(json.dumps(header).encode(), np.uint8)
    arrays["sha256"] = np.frombuffer(checkpoints._digest(arrays), np.uint8)
    with open(target, "wb") as file:
        np.savez(file, **arrays)
    try:
        found = read(target, IDENTITY)
    except CheckpointError:
        return
    assert not drop
    assert found.identity == IDENTITY
    assert isinstance(found.run_id, str)
    assert min(found.state.epoch, found.state.steps) >= 0
    for state in found.state.streams.values():
        np.random.default_rng(0).bit_generator.state = state
    assert all(isinstance(each, Measured) for each in found.measured)


def test_deeply_nested_json_is_refused(good, target):
    target.write_bytes(good)
    with np.load(target, allow_pickle=False) as file:
        arrays = {name: file[name] for name in file if name != "sha256"}
    arrays["header"] = np.frombuffer(b"[" * 200_000, np.uint8)
    arrays["sha256"] = np.frombuffer(checkpoints._digest(arrays), np.uint8)
    with open(target, "wb") as file:
        np.savez(file, **arrays)
    with pytest.raises(CheckpointError):
        read(target, IDENTITY)


# Who may train

HOLD = """
import sys, time
from pathlib import Path
from ablations.experiment.lease import leased
with leased(Path(sys.argv[1]), lambda process: print("waits for", process, flush=True)) as lease:
    print("has", lease.holder, flush=True)
    time.sleep(float(sys.argv[2]))
"""


def holder(folder: Path, seconds: float) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder), str(seconds)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )


def test_one_process_at_a_time_and_a_dead_one_does_not_count(tmp_path):
    folder = tmp_path / "a run"
    first = holder(folder, 60)
    name = first.stdout.readline().removeprefix("has ").rstrip("\n")
    assert Holder.parse(name).is_alive(tmp_path) is True
    second = holder(folder, 0)
    try:
        assert second.stdout.readline() == f"waits for {first.pid}\n"
        first.send_signal(signal.SIGKILL)
        assert second.stdout.readline().startswith("has ")
        assert second.wait(PATIENCE_S) == 0
    finally:
        first.kill(), second.kill()
        first.wait(), second.wait()
    assert Holder.parse(name).is_alive(tmp_path) is False
    assert not folder.exists()


def test_many_processes_take_turns(tmp_path):
    """Each removes the folder when it leaves, under the feet of those that wait."""
    processes = [holder(tmp_path / "a run", 0.05) for _ in range(6)]
    started = time.monotonic()
    assert [process.wait(PATIENCE_S) for process in processes] == [0] * 6
    assert time.monotonic() - started >= 6 * 0.05
    assert not (tmp_path / "a run").exists()


def test_a_folder_that_cannot_be_made_is_one_line():
    message = "cannot write to the MLflow store's checkpoints in /dev/null: Not a directory"
    with pytest.raises(InputError, match=message), leased(Path("/dev/null/x"), pytest.fail):
        pass


def test_a_lease_on_another_machine_or_by_oneself(tmp_path):
    with leased(tmp_path, pytest.fail) as lease:
        assert Holder.parse(str(lease.holder)) == lease.holder
        assert lease.holder.is_alive(lease.lock) is False
        assert Holder("elsewhere", "1", lease.lock).is_alive(lease.lock) is None
