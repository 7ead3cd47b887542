"""An experiment-tracking ablation suite for LeNet-5.

    import ablations

    ablations.compare(frame, factors="arch", metric="acc", seed="seed")   # of anybody's results: docs/notebooks.md
    ablations.train(["activation=tanh", "trainer.epochs=1"])              # one run of this project's network

Importing it costs nothing: what is asked for is imported then.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ablations.errors import InputError
    from ablations.report.compared import Compared, compare
    from ablations.sweep.trained import TrainedRun, train

__all__ = ["Compared", "InputError", "TrainedRun", "compare", "train"]

__path__.append(f"{__path__[0]}/predict/earlier")  # where saved models of 0.1.0 find theirs

_HOMES = {
    "compare": "ablations.report.compared",
    "Compared": "ablations.report.compared",
    "train": "ablations.sweep.trained",
    "TrainedRun": "ablations.sweep.trained",
    "InputError": "ablations.errors",
}


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
