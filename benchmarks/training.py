"""One training step (forward, loss, backward, update) of ours against PyTorch eager, JAX jit where installed, and
torch.compile where asked for.

All sides train the same network from the same weights on the same batch, in float32 with the same number of
threads, and their losses must agree (rtol 1e-4, atol 1e-6) before anything is timed. Samples of them alternate
within one process; a figure is the median of the repeats. The images are digits, already in the input buffer; their
labels are real; the learning rate is then made so small that the network stays where it is.

Afterwards: the machine's rate of matrix products, how far a step is from what its arithmetic alone would take,
and where its time goes, by layer and by kind of work.
"""

import argparse
import importlib.util
import os
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import ClassVar

import measuring
import numpy as np
from hydra.utils import instantiate
from measuring import (
    interleaved,
    judged,
    options,
    print_machine,
    print_table,
    seconds,
    sgemm_gflops,
    versions,
    write_json,
)
from omegaconf import DictConfig
from threadpoolctl import threadpool_limits

from ablations.ground.paths import CONF
from ablations.nn.activations import Activate
from ablations.nn.feeder import IMAGES_AT_ONCE, Feeder
from ablations.nn.network import Network
from ablations.nn.pooling import Pooling
from ablations.sweep.overrides import compose
from ablations.training.loop import gradient, train
from ablations.training.recipe import Images, Options, Recipe, build_network
from ablations.training.streams import Streams

EXAMPLES = """examples:
  python benchmarks/training.py                              everything, some minutes
  python benchmarks/training.py --quick                      under a minute
  python benchmarks/training.py --variants relu/max --batches 64 --optimizers adam --repeats 15
  python benchmarks/training.py --variants relu/max --optimizers sgd --compile
  python benchmarks/training.py --threads 2 --json steps.json
"""
VARIANTS = {
    "relu/max": ("activation=relu", "pool=max"),
    "tanh/avg": ("activation=tanh", "pool=avg"),
    "sigmoid/avg": ("activation=sigmoid", "pool=avg"),
    "sparse C3": ("activation=relu", "pool=max", "c3=sparse"),
    "scaled_tanh/subsample": ("activation=scaled_tanh", "pool=subsample"),
    "rbf": ("activation=scaled_tanh", "pool=subsample", "c3=sparse", "head=rbf", "init=lecun"),
}
OPTIMIZERS = ("sgd", "momentum", "adam")
BATCHES = (1, 8, 16, 32, 64, 128, 256)
STANDING_STILL = 1e-6
"""A learning rate that moves nothing in the steps of a benchmark, and makes no denormal numbers either."""


class Step:
    """One training step of ours on a fixed batch."""

    def __init__(self, config: DictConfig, network: Network, x: np.ndarray, labels: np.ndarray) -> None:
        self.network, self.indices, self.labels = network, np.arange(labels.size), labels
        parts = -(-labels.size // IMAGES_AT_ONCE)  # as `gradient` will ask for them
        bounds = [labels.size * i // parts for i in range(parts + 1)]
        self.inputs = {a: np.ascontiguousarray(x[..., a:b]) for a, b in pairwise(bounds)}
        self.optimizer = instantiate(config.optimizer)
        self.optimizer.start(network.values)
        self.optimizer.begin_epoch(1)

    def set_rate(self, rate: float) -> None:
        self.optimizer.lr = rate

    def __call__(self) -> float:
        """Forward, backward, update; the mean loss before the update."""
        network = self.network
        loss, _ = gradient(network, lambda part: self.inputs[part[0]], self.indices, self.labels)
        self.optimizer.step(network.values, network.grads)
        return loss / self.labels.size


def main() -> None:
    args = arguments()
    if importlib.util.find_spec("torch") is None:
        sys.exit("error: this compares with PyTorch: pip install torch")
    os.environ |= {"NPROC": str(args.threads)}  # JAX's thread pool; it is read when JAX is loaded
    if args.threads == 1:
        os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"
    import torch

    torch.set_num_threads(args.threads)
    if args.processor_time:
        measuring.clock = time.process_time
    about = print_machine()
    kind = "processor" if args.processor_time else "wall"
    print(f"{args.threads} thread(s), float32, {kind} time, medians of {args.repeats} interleaved repeats\n")
    with np.errstate(all="ignore"), threadpool_limits(limits=args.threads):
        rows = list(compare(args))
        summarise(rows)
        with threadpool_limits(limits=1):
            rate = sgemm_gflops()
        print(f"\nsgemm 1024³, float32, one thread: {rate:.0f} GFLOP/s")
        breakdowns = [breakdown(batch, rate, args.repeats) for batch in args.profile]
    if args.json:
        content = {"machine": about, "versions": versions(), "threads": args.threads}
        content |= {"repeats": args.repeats, "sgemm_gflops": rate, "rows": rows, "breakdowns": breakdowns}
        write_json(args.json, content)


def arguments() -> argparse.Namespace:
    parser = options(__doc__, EXAMPLES, quick="batches 1, 16, 64, 128; adam; no JAX", mnist=False)
    existing = [name for name, overrides in VARIANTS.items() if all(map(exists, overrides))]
    parser.add_argument("--variants", nargs="+", choices=existing, default=existing)
    parser.add_argument("--optimizers", nargs="+", choices=OPTIMIZERS)
    parser.add_argument("--batches", nargs="+", type=int, help=f"default: {' '.join(map(str, BATCHES))}")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--processor-time",
        action="store_true",
        help="not wall time: for one thread, where others use the machine",
    )
    parser.add_argument("--profile", nargs="*", type=int, default=[64, 1], help="batches to break down")
    parser.add_argument("--no-jax", action="store_true", help="leave JAX out even where it is installed")
    parser.add_argument(
        "--compile",
        action="store_true",
        help="torch.compile too; needs a C++ compiler, and its time for each row",
    )
    args = parser.parse_args()
    args.optimizers = args.optimizers or (["adam"] if args.quick else list(OPTIMIZERS))
    args.batches = args.batches or ([1, 16, 64, 128] if args.quick else list(BATCHES))
    args.no_jax |= args.quick
    for name in ("batches", "profile", "repeats", "threads"):
        given = getattr(args, name)
        if min(given if isinstance(given, list) else [given], default=1) < 1:
            parser.error(f"--{name}: must be at least 1")
    if args.processor_time and args.threads > 1:
        parser.error("--processor-time: is the sum over the threads; only with --threads 1")
    return args


def exists(override: str) -> bool:
    group, _, choice = override.partition("=")
    return (CONF / group / f"{choice}.yaml").exists()


def prepared(overrides: tuple[str, ...], batch: int) -> tuple[DictConfig, Network, np.ndarray, np.ndarray]:
    """Configuration, freshly initialised network, and a batch of digits in its input buffer."""
    config = compose("dataset=digits", *overrides)
    network = build_network(config, Streams(config.seed))
    dataset = instantiate(config.dataset).load()
    chosen = np.arange(batch) % len(dataset.train_labels)
    normalization = instantiate(config.normalization).fit(dataset.train_images)
    x = Feeder(network, normalization)(dataset.train_images[chosen])
    return config, network, x, dataset.train_labels[chosen]


def compare(args: argparse.Namespace) -> Iterator[dict[str, object]]:
    """One row per variant, optimizer and batch size, printed as it comes."""
    import rival_torch

    rivals: dict[str, type] = {"torch": rival_torch.Step}
    if args.compile:
        rivals["compile"] = rival_torch.CompiledStep
    if not args.no_jax and importlib.util.find_spec("jax"):
        import rival_jax

        rivals["jax"] = rival_jax.Step
    others = [f"{name}_us" for name in list(rivals)[1:]]
    columns = ["variant", "optimizer", "batch", "ours_us", "torch_us", "ratio", *others]
    print(" ".join(f"{column:>10}" if i else f"{column:22}" for i, column in enumerate(columns)))
    for variant in args.variants:
        sides = {}
        for name, rival in rivals.items():
            try:
                rival(*prepared(VARIANTS[variant], batch=1))
                sides[name] = rival
            except rival_torch.NoCounterpartError as error:
                print(f"{variant}: without {name}, {error}")
        if "torch" not in sides:
            continue
        for rule in args.optimizers:
            for batch in args.batches:
                case = prepared((*VARIANTS[variant], f"optimizer={rule}"), batch)
                steps = {name: rival(*case) for name, rival in sides.items()}
                steps = {"ours": Step(*case)} | steps
                require_agreement(steps, f"{variant}, {rule}, batch {batch}")
                for step in steps.values():
                    step.set_rate(STANDING_STILL)
                times = {f"{name}_us": 1e6 * s for name, s in interleaved(steps, args.repeats).items()}
                row = {"variant": variant, "optimizer": rule, "batch": batch, "threads": args.threads}
                row |= times | {"ratio": times["torch_us"] / times["ours_us"]}
                line = f"{variant:22} {rule:>10} {batch:10} {row['ours_us']:10,.0f} {row['torch_us']:10,.0f}"
                line += f" {row['ratio']:10.2f}" + "".join(
                    f" {row[other]:10,.0f}" if other in row else " " * 11 for other in others
                )
                print(line, flush=True)
                yield row


def require_agreement(steps: dict[str, Callable[[], object]], where: str) -> None:
    """The first two losses agree: the first compares the forward pass, the second gradients and update."""
    for number in (1, 2):
        losses = {name: float(step()) for name, step in steps.items()}
        if not np.allclose(list(losses.values()), losses["ours"], rtol=1e-4, atol=1e-6):
            sys.exit(f"error: {where}: the losses of step {number} differ: {losses}")


def summarise(rows: list[dict[str, object]]) -> None:
    print()
    middle = [row["ratio"] for row in rows if row["variant"] == "relu/max" and 16 <= row["batch"] <= 128]
    if middle:
        mean = statistics.geometric_mean(middle)
        figure = judged(mean, 2.0, " × PyTorch", at_most=False)
        print(f"relu/max, geometric mean over batches 16 to 128: {figure}; aim 3")
    if rows:
        worst = min(rows, key=lambda row: row["ratio"])
        where = f"{worst['variant']}, {worst['optimizer']}, batch {worst['batch']}"
        print(f"worst ratio: {judged(worst['ratio'], 1.5, ' × PyTorch', at_most=False)}, {where}")
    single = [row["ours_us"] for row in rows if row["batch"] == 1]
    if single:
        print(f"batch 1, slowest variant and optimizer: {judged(max(single), 600, ' µs')}")


# Where the time goes


def necessary_flops(network: Network) -> int:
    """Floating point operations that a step cannot do without, for one image.

    Two for each multiply-add of the convolutions and full connections: once for the forward pass, once for
    the gradient of the weights, once for that of the input, which the first layer does not need. Biases,
    activations, pooling, loss and update are not counted.
    """
    macs = [layer.summary().macs for layer in network.layers.values()]
    return 2 * (3 * sum(macs) - macs[0])


class Profile:
    """Seconds by (layer, pass, kind of work), measured from outside: nothing in the package knows of it.

    The layers' methods are wrapped, and in their modules the name `np` stands for an object that times some
    functions of numpy. What a layer does by operators (`+=`) and other functions is the rest of its time.
    """

    # Kinds of work within convolutions and full connections, by the numpy function that does it.
    KINDS: ClassVar = {"matmul": "GEMM", "dot": "GEMM", "take": "spread/fold weights"}

    def __init__(self) -> None:
        self.seconds: dict[tuple[str, str, str], float] = defaultdict(float)
        self.gemm_flops = 0
        self.total = 0.0
        self._at = ("", "")

    def __getattr__(self, name: str) -> object:
        """What `np.name` is for the layers while the profile is on."""
        function = getattr(np, name)
        return self._timed_function(name, function) if name in self.KINDS else function

    def _timed_function(self, name: str, function: Callable) -> Callable:
        def timed(*args: object, **kwargs: object) -> object:
            started = measuring.clock()
            result = function(*args, **kwargs)
            kind = "gather" if "axis" in kwargs else self.KINDS[name]  # images and windows are taken by rows
            self.seconds[*self._at, kind] += measuring.clock() - started
            if kind == "GEMM":
                self.gemm_flops += 2 * args[0].shape[-1] * result.size
            return result

        setattr(self, name, timed)  # found at once from now on
        return timed

    def timed(self, function: Callable, layer: str, which: str) -> Callable:
        def timed(*args: object) -> object:
            self._at = (layer, which)
            started = measuring.clock()
            result = function(*args)
            self.seconds[layer, which, "all"] += measuring.clock() - started
            return result

        return timed

    @contextmanager
    def on(self, step: Step) -> Iterator[None]:
        """Time the parts of `step` meanwhile."""
        network, optimizer = step.network, step.optimizer
        modules = [module for name, module in sys.modules.items() if name.startswith("ablations.nn.")]
        modules = [module for module in modules if getattr(module, "np", None) is np]
        sequence, loss = network.sequence, network.loss
        names = layer_names(network)
        first = sequence[0]
        for layer in sequence:
            layer.forward = self.timed(layer.forward, names[id(layer)], "forward")
            if layer is not first:
                layer.backward = self.timed(layer.backward, names[id(layer)], "backward")
        first.backward_parameters = self.timed(first.backward_parameters, names[id(first)], "backward")
        network.loss = self.timed(loss, "loss", "forward")
        network.loss.answers = loss.answers
        optimizer.step = self.timed(optimizer.step, "update", "forward")
        for module in modules:
            module.np = self
        try:
            yield
        finally:
            for module in modules:
                module.np = np
            del optimizer.step, first.backward_parameters
            network.loss = loss
            for layer in sequence:
                del layer.forward
                layer.__dict__.pop("backward", None)


def layer_names(network: Network) -> dict[int, str]:
    """The name of each layer by its id; an activation is named after the layer that it follows."""
    names = {id(layer): name for name, layer in network.layers.items()}
    last = ""
    for layer in network.sequence:
        last = names.setdefault(id(layer), f"{last} activation")
    return names


def breakdown(batch: int, gflops: float, repeats: int) -> dict[str, object]:
    """Print and return where the time of a relu/max step with momentum goes."""
    case = prepared((*VARIANTS["relu/max"], "optimizer=momentum"), batch)
    step = Step(*case)
    step.set_rate(STANDING_STILL)
    plain = 1e6 * interleaved({"step": step}, repeats)["step"]
    profiles = []
    for _ in range(max(20, round(repeats * 0.04 / (plain / 1e6)))):
        profile = Profile()
        with profile.on(step):
            profile.total = seconds(step)
        profiles.append(profile)
    # The parts add up to the whole only within the same steps: those less disturbed than the median one.
    profiles.sort(key=lambda profile: profile.total)
    profiles = profiles[: len(profiles) // 2]
    total = 1e6 * statistics.fmean(profile.total for profile in profiles)
    keys = dict.fromkeys(key for profile in profiles for key in profile.seconds)
    cost = {key: 1e6 * statistics.fmean(profile.seconds[key] for profile in profiles) for key in keys}

    network = step.network
    limit = batch * necessary_flops(network) / gflops / 1e3
    target = (
        f"; {judged(plain / limit, 4, ' × the limit')}"
        if batch == 64
        else f", {plain / limit:.1f} × the limit"
    )
    print(
        f"\nBatch {batch}, relu/max, momentum: {plain:,.0f} µs a step; the arithmetic limit is {limit:,.0f} µs"
        f"{target}\n"
        f"({necessary_flops(network) / 1e6:.3f} MFLOP an image at the sgemm rate: multiply-adds of forward, weight and "
        f"input gradients, none for C1's input;\nour products do {profiles[0].gemm_flops / batch / 1e6:.3f}, with the "
        "zeros and biases of the phase matrices)\n"
    )
    parts = ["GEMM", "gather", "spread/fold weights"]
    table, kinds = [], defaultdict(float)
    names = layer_names(network)
    for layer in network.sequence:
        name = names[id(layer)]
        passes = [cost.get((name, which, "all"), 0.0) for which in ("forward", "backward")]
        within = [
            sum(cost.get((name, which, part), 0.0) for which in ("forward", "backward")) for part in parts
        ]
        rest = sum(passes) - sum(within)
        if isinstance(layer, Pooling):
            kinds["pooling"] += sum(passes)
        elif isinstance(layer, Activate):
            kinds["activation"] += sum(passes)
        else:
            for part, value in zip(parts, within, strict=True):
                kinds[part] += value
            kinds["biases and sums (the rest of convolutions and full connections)"] += rest
        table.append((name, *passes, sum(passes), *within, rest))
    for name in ("loss", "update"):
        kinds[name] = cost[name, "forward", "all"]
        table.append((name, kinds[name], 0.0, kinds[name], 0.0, 0.0, 0.0, kinds[name]))
    kinds["between the layers, and the timers themselves"] = total - sum(row[3] for row in table)
    header = ("layer", "forward", "backward", "together", *parts, "rest")
    print_table(
        [*header, "share"],
        [
            (row[0], *(f"{value:,.0f}" if value else "" for value in row[1:]), f"{row[3] / total:.0%}")
            for row in table
        ],
    )
    print()
    ordered = sorted(kinds.items(), key=lambda item: -item[1])
    print_table(
        ("kind of work", "µs", "share"),
        [(kind, f"{value:,.0f}", f"{value / total:.0%}") for kind, value in ordered],
    )
    rate = profiles[0].gemm_flops / kinds["GEMM"] / 1e3
    loop_us = around(step, case[0], batch, repeats)
    print(
        f"\nMicroseconds, means over the {len(profiles)} least disturbed of twice as many steps; such a step took "
        f"{total:,.0f} with its parts timed.\nThe products ran at {rate:.0f} GFLOP/s. The loop of `train` around a "
        f"step (gathering and normalising images, metrics,\nchecks) takes {loop_us:,.0f} more."
    )
    layers = [dict(zip(header, row, strict=True)) for row in table]
    return {
        "batch": batch,
        "step_us": plain,
        "limit_us": limit,
        "layers": layers,
        "kinds": dict(kinds),
        "loop_us": loop_us,
    }


def around(step: Step, config: DictConfig, batch: int, repeats: int) -> float:
    """Microseconds that a step of `train` takes beyond the bare step; digits, one epoch each time."""
    dataset = instantiate(config.dataset).load()
    size = min(len(dataset.train_labels), 40 * batch) // batch * batch
    images = Images(dataset.train_images[:size], dataset.train_labels[:size])
    normalization = instantiate(config.normalization).fit(images.pixels)
    options = Options(epochs=1, batch_size=batch, clip_norm=None, replacement=False, eval_limit=None)
    step.optimizer.rates = [STANDING_STILL]
    recipe = Recipe(step.network, step.optimizer, normalization, images, None, Streams(0), options)

    def loop() -> None:
        list(train(recipe))

    def bare() -> None:
        for _ in range(size // batch):
            step()

    times = interleaved({"loop": loop, "bare": bare}, repeats)
    return 1e6 * (times["loop"] - times["bare"]) / (size // batch)


if __name__ == "__main__":
    main()
