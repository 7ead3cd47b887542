"""Run a Python program and write which sections of the project its time went to.

    python benchmarks/sections.py FILE.json PROGRAM [ARGUMENT …]

Time is charged to the section that was entered last and not left, so that the sections add up to the whole: what a
report asks the store is the store's, what the store imports is an import's. A section is entered by the outermost
functions of its modules (`SECTIONS`), which are wrapped as their module is loaded, before anybody else has them, and
by every import that is not there yet (importlib's own `_find_and_load`). Nothing is traced: two readings of the
clocks, 1 µs, at each change of the section alone, of which there are some ten thousand in a sweep of four runs.
"""

import functools
import importlib._bootstrap
import inspect
import json
import runpy
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

IMPORTS, COMPOSING, STORE, DATA, TRAINING, EVALUATION, ARTIFACTS, REPORT, REST = NAMES = (
    "imports",
    "composing",
    "store",
    "data",
    "training",
    "evaluation",
    "artifacts",
    "report",
    "rest",
)

SECTIONS = {
    "hydra._internal.utils": {"_run_hydra": COMPOSING},
    "hydra.core.utils": {"run_job": COMPOSING},
    "hydra._internal.config_loader_impl": {"ConfigLoaderImpl": COMPOSING},
    "ablations.sweep.command_line": {"command_lines": COMPOSING, "hand_on": REST},
    "ablations.sweep.composing": {"composed": COMPOSING, "Composer": COMPOSING},
    "ablations.sweep.preview": {"preview": REPORT},
    "ablations.sweep.sweep": {"sweep": REST, "_report": REPORT},
    "ablations.tracking.basis": {"basis": STORE},
    "ablations.tracking.earlier": {"earlier_runs": STORE, "discard": STORE, "last_epoch": STORE},
    "ablations.tracking.outbox": {"deliver": STORE},
    "ablations.tracking.reader": {"Reader": STORE},
    "ablations.tracking.store": {"Store": STORE},
    "ablations.tracking.views": {"share_views": STORE},
    "ablations.tracking.writer": {"Tracker": STORE},
    "mlflow.tracking.client": {"MlflowClient": STORE},
    "mlflow.store.tracking.sqlalchemy_store": {"SqlAlchemyStore": STORE},
    "ablations.datasets.digits": {"Digits": DATA},
    "ablations.datasets.idx_files": {"IdxFiles": DATA},
    "ablations.datasets.image_files": {"ImageFiles": DATA},
    "ablations.training.recipe": {"Recipe": TRAINING},
    "ablations.training.loop": {"train": TRAINING, "evaluate": EVALUATION},
    "ablations.experiment.artifacts": {"write_artifacts": ARTIFACTS},
    "ablations.experiment.evaluation.measure": {"measure": EVALUATION},
}
"""By module its functions, or classes with all their methods, and the section that each of them enters."""


class Clock:
    """Seconds of processor and wall time by section, of what the main thread does; the processor's are of all threads.

    Attributes:
        cpu: by section.
        wall: by section.
    """

    def __init__(self) -> None:
        self.cpu: dict[str, float] = defaultdict(float)
        self.wall: dict[str, float] = defaultdict(float)
        self._entered = [REST]
        self._thread = threading.get_ident()
        self._cpu, self._wall = 0.0, time.perf_counter()  # the interpreter's own start is of the rest

    @contextmanager
    def section(self, name: str) -> Iterator[None]:
        """Charge the time of the block to a section, but for what is charged to another within it."""
        if name == self._entered[-1] or threading.get_ident() != self._thread:
            yield
            return
        self.charge()
        self._entered.append(name)
        try:
            yield
        finally:
            self.charge()
            self._entered.pop()

    def charge(self) -> None:
        """Charge the time since the last change to the section that was entered last."""
        cpu, wall = time.process_time(), time.perf_counter()
        self.cpu[self._entered[-1]] += cpu - self._cpu
        self.wall[self._entered[-1]] += wall - self._wall
        self._cpu, self._wall = cpu, wall

    def timed(self, function: Callable[..., Any], name: str) -> Callable[..., Any]:
        """The function as one that enters a section; of a generator each of its steps does."""
        if inspect.isgeneratorfunction(function):

            @functools.wraps(function)
            def steps(*arguments: Any, **options: Any) -> Iterator[Any]:
                values = function(*arguments, **options)
                while True:
                    with self.section(name):
                        try:
                            value = next(values)
                        except StopIteration:
                            return
                    yield value

            return steps

        @functools.wraps(function)
        def call(*arguments: Any, **options: Any) -> Any:
            with self.section(name):
                return function(*arguments, **options)

        return call

    def watch(self, module: ModuleType, parts: dict[str, str]) -> None:
        """Put timed functions in the place of those of a module that `parts` names, or of the classes' methods."""
        for part, name in parts.items():
            owner = getattr(module, part)
            if not inspect.isclass(owner):
                setattr(module, part, self.timed(owner, name))
                continue
            for key, value in list(vars(owner).items()):
                if inspect.isfunction(value):
                    setattr(owner, key, self.timed(value, name))
                elif isinstance(value, classmethod | staticmethod):
                    setattr(owner, key, type(value)(self.timed(value.__func__, name)))

    def watch_imports(self) -> None:
        """Charge what imports take, and watch each module of `SECTIONS` once it is there."""
        load = importlib._bootstrap._find_and_load
        waiting = dict(SECTIONS)

        def find_and_load(name: str, import_: Callable[..., Any]) -> ModuleType:
            with self.section(IMPORTS):
                module = load(name, import_)
            if name in waiting and name in sys.modules:
                self.watch(module, waiting.pop(name))
            return module

        importlib._bootstrap._find_and_load = find_and_load


def main() -> None:
    out, program, *_ = sys.argv[1:]
    sys.argv[:] = sys.argv[2:]
    sys.path[0] = str(program).rpartition("/")[0] or "."
    clock = Clock()
    clock.watch_imports()
    try:
        runpy.run_path(program, run_name="__main__")
    finally:
        clock.charge()
        with open(out, "w", encoding="utf-8") as file:
            json.dump({"cpu": clock.cpu, "wall": clock.wall}, file)


if __name__ == "__main__":
    main()
