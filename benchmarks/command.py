"""Where the processor time of the card's command goes: `python run.py -m activation=relu,tanh pool=max,avg`.

Four commands run as a user types them, in copies of the project with stores of their own, compiled beforehand:

  fresh    the card's command, whose store does not exist yet: four runs of 20 epochs on the digits
  again    the same once more, with nothing left to train
  hundred  100 runs of one epoch on the digits, -m 'seed=range(100)' trainer.epochs=1, in the store of the first
  planned  +study=factorial dataset=digits dry_run=true, 640 runs that are planned and not made

Every second belongs to one section (see sections.py, which also says what measuring costs): imports, composing
(Hydra, the configurations), store (MLflow, its database, reading it), data, training, evaluation (after each epoch
and at the end), artifacts, report, and the rest, among it the interpreter's start and end and the calls of git.
What one needs of another is the other's: a report's reading of the store is the store's, what it imports an import.

Processor time is the main figure: on a shared machine wall times mean something only below a load of 2.
"""

import argparse
import compileall
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from measuring import judged, options, print_machine, print_table, versions, write_json
from sections import EVALUATION, NAMES, REST, TRAINING
from sweep import Project

EXAMPLES = """examples:
  python benchmarks/command.py                          all four, three times: some minutes
  python benchmarks/command.py --only fresh again --repeats 5 --json command.json
  python benchmarks/command.py --quick                  short runs and few of them, once
"""

CARD = ["-m", "activation=relu,tanh", "pool=max,avg"]
COMMANDS = {
    "fresh": CARD,
    "again": CARD,
    "hundred": ["-m", "seed=range(100)", "trainer.epochs=1"],
    "planned": ["+study=factorial", "dataset=digits", "dry_run=true"],
}
QUICK = {
    "fresh": [*CARD, "trainer.epochs=1"],
    "again": [*CARD, "trainer.epochs=1"],
    "hundred": ["-m", "seed=range(2)", "trainer.epochs=1"],
    "planned": ["+study=pool", "dataset=digits", "dry_run=true"],
}
AGAIN_S = 4.0


@dataclass(frozen=True)
class Times:
    """Seconds of one command by section, of the processor and on the clock."""

    cpu: dict[str, float]
    wall: dict[str, float]

    @property
    def total(self) -> float:
        """Of the processor."""
        return sum(self.cpu.values())


def main() -> None:
    args = arguments()
    commands = {name: (QUICK if args.quick else COMMANDS)[name] for name in args.only}
    about = print_machine()
    runs: dict[str, list[Times]] = {name: [] for name in commands}
    for _ in range(args.repeats):
        with tempfile.TemporaryDirectory(prefix="command-benchmark-") as folder:
            project = Project(Path(folder))
            compileall.compile_dir(project.root, quiet=1)
            for name, words in commands.items():
                runs[name].append(measure(project, words))
    found = {name: median(times) for name, times in runs.items()}
    tell(found)
    if args.json:
        content = {"machine": about, "versions": versions(), "repeats": args.repeats, "commands": commands}
        write_json(args.json, content | {"times": {name: asdict(times) for name, times in found.items()}})


def arguments() -> argparse.Namespace:
    parser = options(__doc__, EXAMPLES, quick="runs of one epoch, few of them, once", mnist=False)
    parser.add_argument("--only", nargs="+", choices=COMMANDS, default=list(COMMANDS), help="default: all")
    parser.add_argument("--repeats", type=int, default=3, help="of which the medians are told; default: 3")
    args = parser.parse_args()
    if args.quick:
        args.repeats = 1
    if args.repeats < 1:
        parser.error("--repeats: at least 1")
    if "again" in args.only and "fresh" not in args.only:
        parser.error("--only: again is after fresh")
    args.only = [name for name in COMMANDS if name in args.only]
    return args


def measure(project: Project, words: Sequence[str]) -> Times:
    """One command; ends the program where that fails."""
    out, sections = project.root / "sections.json", Path(__file__).with_name("sections.py")
    environment = {key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"}
    environment |= {"PYTHONPATH": str(project.root), "ABLATIONS_HOME": str(project.root)}
    before, started = os.times(), time.perf_counter()
    done = subprocess.run(
        [sys.executable, str(sections), str(out), str(project.root / "run.py"), *words],
        cwd=project.root,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    wall, after = time.perf_counter() - started, os.times()
    if done.returncode:
        sys.exit(f"error: run.py {' '.join(words)} failed:\n{done.stderr}")
    found = json.loads(out.read_text(encoding="utf-8"))
    cpu, clock = ({name: found[of].get(name, 0.0) for name in NAMES} for of in ("cpu", "wall"))
    used = after.children_user + after.children_system - before.children_user - before.children_system
    # What no clock inside sees: the interpreter's end, other programs that it calls; Windows does not tell it.
    cpu[REST] += max(0.0, used - sum(cpu.values()))
    clock[REST] += max(0.0, wall - sum(clock.values()))
    return Times(cpu, clock)


def median(runs: Sequence[Times]) -> Times:
    """The run of median processor time, whole, so that its sections still add up."""
    middle = statistics.median_low(run.total for run in runs)
    return next(run for run in runs if run.total == middle)


def tell(found: dict[str, Times]) -> None:
    """Seconds of processor time and shares of them."""
    header = ("processor seconds", *found)
    rows = [
        (name, *(f"{times.cpu[name]:.2f} ({times.cpu[name] / times.total:.0%})" for times in found.values()))
        for name in NAMES
    ]
    rows.append(("together", *(f"{times.total:.2f}" for times in found.values())))
    rows.append(("on the clock", *(f"{sum(times.wall.values()):.2f}" for times in found.values())))
    print()
    print_table(header, rows)
    print()
    if "fresh" in found:
        times = found["fresh"]
        share = 100 * (times.cpu[TRAINING] + times.cpu[EVALUATION]) / times.total
        print(f"training and evaluation of the card's command: {judged(share, 50, ' %', at_most=False)}")
    if "again" in found:
        print(f"again, with nothing to train: {judged(found['again'].total, AGAIN_S, ' s')}")


if __name__ == "__main__":
    main()
