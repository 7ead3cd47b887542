"""A study of activation and pooling as one would write it plainly in PyTorch and MLflow, with a pool of two processes.

    python benchmarks/rival_study.py DATA STARTS STORE [fused]

DATA is the folder of MNIST's four files, STARTS that of one `SEED.npz` for each seed: the indices `train` and
`validation`, the `order` (epochs, n) of the training images in each epoch, and the initial weights by their names here.
STORE is the SQLite file that the runs are logged to. Nothing here knows the package; study.py runs it against that.
"""

import gzip
import itertools
import multiprocessing
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from mlflow import MlflowClient
from mlflow.entities import Metric, Param
from torch import Tensor, nn

ACTIVATIONS = {"relu": torch.relu, "tanh": torch.tanh, "sigmoid": torch.sigmoid}
POOLS = {"max": F.max_pool2d, "avg": F.avg_pool2d}
BATCH_SIZE, EVALUATED_AT_ONCE, LEARNING_RATE = 32, 500, 0.001
PROCESSES = 2


class LeNet5(nn.Module):
    """Convolution, activation, pooling, twice; then three layers of units."""

    def __init__(self, activation: str, pool: str) -> None:
        super().__init__()
        self.activation, self.pool = ACTIVATIONS[activation], POOLS[pool]
        self.C1, self.C3 = nn.Conv2d(1, 6, 5), nn.Conv2d(6, 16, 5)
        self.C5, self.F6, self.output = nn.Linear(400, 120), nn.Linear(120, 84), nn.Linear(84, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Outputs (n, 10) for images (n, 1, 32, 32)."""
        x = self.pool(self.activation(self.C1(x)), 2)
        x = self.pool(self.activation(self.C3(x)), 2)
        x = self.activation(self.C5(x.flatten(1)))
        return self.output(self.activation(self.F6(x)))


def read(folder: Path, part: str) -> np.ndarray:
    """One of MNIST's files, plain or packed, as (N, 28, 28) or (N,)."""
    packed = folder / f"{part}.gz"
    content = gzip.decompress(packed.read_bytes()) if packed.exists() else (folder / part).read_bytes()
    sizes = np.frombuffer(content, ">u4", count=content[3], offset=4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * content[3]).reshape(sizes)


def images(pixels: np.ndarray) -> Tensor:
    """Pixels (n, 28, 28) as (n, 1, 32, 32) in [0, 1]."""
    return F.pad(torch.from_numpy(pixels.astype(np.float32) / 255)[:, None], (2, 2, 2, 2))


def load(folder: Path) -> None:
    """What each process does once: one thread, and all the data as tensors."""
    global data
    torch.set_num_threads(1)
    data = {
        kind: (images(read(folder, f"{kind}-images-idx3-ubyte")), labels(folder, kind))
        for kind in ("train", "t10k")
    }


def labels(folder: Path, kind: str) -> Tensor:
    return torch.from_numpy(read(folder, f"{kind}-labels-idx1-ubyte").astype(np.int64))


def train_epoch(
    network: LeNet5, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor, order: Tensor
) -> tuple[float, float]:
    """One pass over the images at `order`; mean loss and accuracy, each batch measured before its update."""
    total, correct = 0.0, 0
    for at in order.split(BATCH_SIZE):
        target = y[at]
        optimizer.zero_grad()
        outputs = network(x[at])
        loss = F.cross_entropy(outputs, target)
        loss.backward()
        optimizer.step()
        total += loss.item() * len(at)
        correct += (outputs.argmax(1) == target).sum().item()
    return total / len(order), correct / len(order)


@torch.inference_mode()
def evaluate(network: LeNet5, x: Tensor, y: Tensor) -> tuple[float, float]:
    """Mean loss and accuracy."""
    total, correct = 0.0, 0
    for batch, target in zip(x.split(EVALUATED_AT_ONCE), y.split(EVALUATED_AT_ONCE), strict=True):
        outputs = network(batch)
        total += F.cross_entropy(outputs, target, reduction="sum").item()
        correct += (outputs.argmax(1) == target).sum().item()
    return total / len(x), correct / len(x)


def log(client: MlflowClient, run_id: str, step: int, metrics: dict[str, float]) -> None:
    now = time.time_ns() // 1_000_000
    client.log_batch(run_id, [Metric(key, value, now, step) for key, value in metrics.items()])


def run(store: str, experiment: str, activation: str, pool: str, start: Path, fused: bool) -> None:
    """Train one network and log it."""
    client = MlflowClient(store)
    run_id = client.create_run(experiment, run_name=f"{activation}, {pool}, {start.stem}").info.run_id
    with np.load(start) as arrays:
        given = {name: torch.from_numpy(array) for name, array in arrays.items()}
    train_at, validation_at, order = (given.pop(name) for name in ("train", "validation", "order"))
    params = {"activation": activation, "pool": pool, "seed": start.stem, "epochs": len(order)}
    params |= {"batch_size": BATCH_SIZE, "optimizer": "Adam", "lr": LEARNING_RATE}
    client.log_batch(run_id, params=[Param(key, str(value)) for key, value in params.items()])
    network = LeNet5(activation, pool)
    network.load_state_dict(given)
    optimizer = torch.optim.Adam(network.parameters(), lr=LEARNING_RATE, fused=fused)
    x, y = data["train"]
    validation = x[validation_at], y[validation_at]

    for epoch, places in enumerate(order, start=1):
        began = time.perf_counter()
        loss, accuracy = train_epoch(network, optimizer, x, y, train_at[places])
        metrics = {
            "train/loss": loss,
            "train/accuracy": accuracy,
            "time/epoch_s": time.perf_counter() - began,
        }
        metrics["val/loss"], metrics["val/accuracy"] = evaluate(network, *validation)
        log(client, run_id, epoch, metrics)
    loss, accuracy = evaluate(network, *data["t10k"])
    tested = {"test/loss": loss, "test/accuracy": accuracy, "test/error_pct": 100 * (1 - accuracy)}
    log(client, run_id, len(order), tested)
    with tempfile.TemporaryDirectory() as folder:
        torch.save(network.state_dict(), Path(folder) / "model.pt")
        client.log_artifact(run_id, str(Path(folder) / "model.pt"))
    client.set_terminated(run_id)


def main() -> None:
    folder, starts, store = map(Path, sys.argv[1:4])
    address = f"sqlite:///{store}"
    with multiprocessing.Pool(PROCESSES, load, [folder]) as pool:
        artifacts = (store.parent / "artifacts").as_uri()
        experiment = MlflowClient(address).create_experiment("study", artifact_location=artifacts)
        variants = itertools.product(ACTIVATIONS, POOLS, sorted(starts.glob("*.npz")))
        jobs = [(address, experiment, *variant, "fused" in sys.argv[4:]) for variant in variants]
        pool.starmap(run, jobs, chunksize=1)


if __name__ == "__main__":
    main()
