"""Images per second over MNIST's 10,000 test images, ours against PyTorch, from uint8 pixels to predictions.

Both do the same work: take a batch of bytes, normalise and pad it, pass it through the same trained network,
and choose the largest output; in float32, with the same number of threads, PyTorch under `inference_mode`.
They alternate within one process, medians of the repeats, and must predict the same. Batch 1 looks at the
first 2,000 images. A third row is `evaluate`, which also computes losses and confidences.
"""

import argparse
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from hydra.utils import instantiate
from measuring import (
    interleaved,
    judged,
    mnist_folder,
    options,
    print_machine,
    print_table,
    versions,
    write_json,
)
from threadpoolctl import threadpool_limits

from ablations.nn.feeder import IMAGES_AT_ONCE, Feeder
from ablations.nn.network import Network
from ablations.nn.normalization import Normalization
from ablations.sweep.overrides import compose
from ablations.training.loop import evaluate, train
from ablations.training.recipe import Images, Options, Recipe, build_network
from ablations.training.streams import Streams

EXAMPLES = """examples:
  python benchmarks/inference.py
  python benchmarks/inference.py --root ~/mnist --batches 1 32 128 1000
  python benchmarks/inference.py --quick --json inference.json
"""
VARIANT = ("activation=relu", "pool=max")


def main() -> None:
    args = arguments()
    if importlib.util.find_spec("torch") is None:
        sys.exit("error: this compares with PyTorch: pip install torch")
    root = mnist_folder(args.root)
    import torch

    torch.set_num_threads(args.threads)
    about = print_machine()
    print(f"{args.threads} thread(s), float32, relu/max, medians of {args.repeats} interleaved repeats\n")
    with threadpool_limits(limits=args.threads):
        rows = measure(args, root)
    print_table(
        ("batch", "images", "ours/s", "PyTorch/s", "ratio", "evaluate/s"),
        [
            (
                str(row["batch"]),
                f"{row['images']:,}",
                *(f"{row[key]:,.0f}" for key in ("ours_per_s", "torch_per_s")),
                f"{row['ratio']:.2f}",
                f"{row['evaluate_per_s']:,.0f}" if "evaluate_per_s" in row else "",
            )
            for row in rows
        ],
    )
    print()
    for row in rows:
        if row["batch"] == 1:
            print(f"one at a time: {judged(row['ours_per_s'], 3000, ' images/s', at_most=False)}")
        else:
            figure = judged(row["ratio"], 2.0, " × PyTorch", at_most=False)
            print(f"batch {row['batch']}: {figure}")
    if args.json:
        content = {"machine": about, "versions": versions(), "threads": args.threads, "rows": rows}
        write_json(args.json, content)


def arguments() -> argparse.Namespace:
    parser = options(__doc__, EXAMPLES, quick="2,000 images, 3 repeats")
    parser.add_argument("--batches", nargs="+", type=int, default=[1, IMAGES_AT_ONCE, 128])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    if min(*args.batches, args.repeats, args.threads) < 1:
        parser.error("batches, repeats and threads must be at least 1")
    if args.quick:
        args.repeats = 3
    return args


def measure(args: argparse.Namespace, root: Path) -> list[dict[str, object]]:
    config = compose("dataset=mnist", f"dataset.root='{root}'", *VARIANT)
    dataset = instantiate(config.dataset).load()
    normalization = instantiate(config.normalization).fit(dataset.train_images)
    network = build_network(config, Streams(config.seed))
    # Trained for a moment, so that its answers differ by more than rounding.
    some = Images(dataset.train_images[:10_000], dataset.train_labels[:10_000])
    options = Options(epochs=1, batch_size=32, clip_norm=None, replacement=False, eval_limit=None)
    optimizer = instantiate(config.optimizer)
    list(train(Recipe(network, optimizer, normalization, some, None, Streams(0), options)))

    import rival_torch

    rival = rival_torch.LeNet5(config, network)
    rows = []
    for batch in args.batches:
        images = 2000 if batch == 1 or args.quick else len(dataset.test_labels)
        test = Images(dataset.test_images[:images], dataset.test_labels[:images])
        sides: dict[str, Callable[[], np.ndarray]] = {
            "ours": ours(network, normalization, test.pixels, batch),
            "torch": theirs(rival, normalization, test.pixels, batch),
        }
        if batch == IMAGES_AT_ONCE:
            sides["evaluate"] = lambda test=test: evaluate(network, normalization, test).predictions
        answers = {name: side() for name, side in sides.items()}
        for name, predictions in answers.items():
            if not np.array_equal(predictions, answers["ours"]):
                sys.exit(f"error: batch {batch}: {name} predicts otherwise than ours")
        times = interleaved(sides, args.repeats)
        row: dict[str, object] = {"batch": batch, "images": images, "threads": args.threads}
        row |= {f"{name}_per_s": images / seconds for name, seconds in times.items()}
        rows.append(row | {"ratio": times["torch"] / times["ours"]})
    return rows


def ours(
    network: Network, normalization: Normalization, pixels: np.ndarray, batch: int
) -> Callable[[], np.ndarray]:
    """Predictions the way `evaluate` makes them, without the losses and confidences."""
    feed = Feeder(network, normalization)
    predictions = np.empty(len(pixels), np.uint8)

    def predict() -> np.ndarray:
        for start in range(0, len(pixels), batch):
            part = slice(start, start + batch)
            predictions[part] = network.loss.answers(network.forward(feed(pixels[part])))
        return predictions

    return predict


def theirs(
    network: Callable, normalization: Normalization, pixels: np.ndarray, batch: int
) -> Callable[[], np.ndarray]:
    """The same in PyTorch."""
    import torch
    from torch.nn.functional import pad

    images = torch.tensor(pixels)[:, None]
    predictions = torch.empty(len(pixels), dtype=torch.uint8)

    @torch.inference_mode()
    def predict() -> np.ndarray:
        for start in range(0, len(images), batch):
            part = slice(start, start + batch)
            x = images[part].float().mul_(normalization.scale).add_(normalization.offset)
            x = pad(x, (2, 2, 2, 2), value=normalization.background)
            predictions[part] = network(x).argmax(1)
        return predictions.numpy()

    return predict


if __name__ == "__main__":
    main()
