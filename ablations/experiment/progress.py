"""What runs and sweeps show while they go on; on a terminal only."""

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType

from ablations.training.loop import Step

REFRESH_STEPS = 10
REFRESH_S = 0.5
DONE = "done"
CLEAR_LINE = "\r\x1b[K"


def say(line: str) -> None:
    """Print a line; on a terminal over the bar that may stand there, which whoever drew it draws again.

    A stdout that is full, or that nobody reads any more, does not stop a training.
    """
    with suppress(OSError):
        print((CLEAR_LINE if sys.stdout.isatty() else "") + line, flush=True)


@contextmanager
def sweep_bar(folder: Path, runs: int) -> Iterator[None]:
    """A bar over the runs of a sweep with the time that is left, whatever launches them.

    A run that has ended says so by a file named `DONE` in its own folder in `folder`.
    """
    if not sys.stderr.isatty():
        yield
        return
    from tqdm import tqdm

    ended = threading.Event()
    with tqdm(total=runs, desc="sweep", unit="run", dynamic_ncols=True, leave=False, smoothing=0.1) as bar:

        def refresh() -> None:
            while not ended.wait(REFRESH_S):
                bar.update(sum(1 for _ in folder.glob(f"*/{DONE}")) - bar.n)
                bar.refresh()

        watcher = threading.Thread(target=refresh, daemon=True)
        watcher.start()
        try:
            yield
        finally:
            ended.set()
            watcher.join()


class ProgressBar:
    """A bar over all steps of a run with running loss, accuracy and largest absolute gradient.

    `done` of them were made before. Nothing is shown where stderr is not a terminal, or when `shown` is false
    (parallel sweeps).
    """

    def __init__(self, description: str, steps: int, shown: bool, done: int = 0) -> None:
        self._bar = None
        if shown and sys.stderr.isatty():  # else not even its lock is made, which workers would leave behind
            from tqdm import tqdm

            self._bar = tqdm(
                total=steps,
                initial=done,
                desc=description,
                unit="step",
                leave=False,
                position=1,  # below that of the sweep, where there is one
                dynamic_ncols=True,
            )
        self._loss = self._accuracy = None
        self._largest = 0.0

    def __enter__(self) -> "ProgressBar":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()

    def __call__(self, step: Step) -> None:
        """Take note of one step."""
        if self._bar is None:
            return
        self._loss = step.loss if self._loss is None else 0.98 * self._loss + 0.02 * step.loss
        self._accuracy = (
            step.accuracy if self._accuracy is None else 0.98 * self._accuracy + 0.02 * step.accuracy
        )
        self._largest = max(self._largest, step.grad_max_abs)
        if step.number % REFRESH_STEPS == 0:
            self._bar.set_postfix_str(
                f"loss {self._loss:.3f}, accuracy {self._accuracy:.1%}, |gradient| ≤ {self._largest:.2g}",
                refresh=False,
            )
        self._bar.update()
