"""What runs and sweeps show while they go on; on a terminal only."""

import shutil
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from statistics import mean
from types import TracebackType

from ablations.commands import columns, shortened
from ablations.training.loop import Step

REFRESH_STEPS = 10
REFRESH_S = 0.5
DONE = "done"
SWEEP_BAR = "{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} [{elapsed}{postfix}]"
RUN_BAR = "{desc}: {percentage:3.0f}%|{bar}| {remaining} left{postfix}"
WIDE = 110
"""From so many columns on, a run's bar has room for its gradients."""
BAR_AND_NUMBERS = 55
"""Columns of a run's bar that are not for its name: a short bar, the time, loss and accuracy."""


@contextmanager
def sweep_bar(folder: Path, runs: int, first: int = 0, below: Sequence[str] = ()) -> Iterator[None]:
    """A bar over the runs of a sweep from the `first` on, with the time that is left, whatever launches them.

    Each has a numbered folder in `folder` from its beginning on. One that has ended says so by a file named `DONE`
    there, with the seconds that it trained.

    Args:
        folder: of the runs' folders.
        runs: how many are launched.
        first: the number of the first of them.
        below: lines to be shown below the bar, and that of a run, as long as it is there.
    """
    if not sys.stderr.isatty():
        yield
        return
    from tqdm import tqdm

    ended = threading.Event()
    with tqdm(
        total=runs, desc="sweep", dynamic_ncols=True, leave=False, bar_format=SWEEP_BAR, mininterval=0
    ) as bar:

        def refresh() -> None:
            workers = 1
            while not ended.wait(REFRESH_S):
                ages, results = _look(folder, first)
                workers = max(workers, len(ages))
                left = seconds_left(runs - len(results) - len(ages), ages, results, workers)
                bar.n = len(results)
                bar.set_postfix_str("" if left is None else f"{bar.format_interval(left)} left")
                if below:
                    _draw(below)

        watcher = threading.Thread(target=refresh, daemon=True)
        watcher.start()
        try:
            yield
        finally:
            ended.set()
            watcher.join()
            if below:
                _draw(())


def _draw(lines: Sequence[str]) -> None:
    """Show lines two below the cursor in place of what stands there, and leave it where it is.

    The cursor rests on the bar, so that whatever is printed over it, by any process, moves the bar down by a line, and
    all below it where it is drawn again.
    """
    from tqdm import tqdm

    width, height = shutil.get_terminal_size()
    shown = [shortened(line, width - 1) for line in lines[: max(height - 4, 1)]]
    up = 1 + max(len(shown), 1)
    with tqdm.get_lock():
        text = "\n".join(shown)
        sys.stderr.write(f"\n\n\x1b[J{text}\x1b[{up}A\r")
        sys.stderr.flush()


def seconds_left(
    waiting: int, ages: Sequence[float], ended: Sequence[tuple[float, float]], workers: int
) -> float | None:
    """How long a sweep still takes; None before any of its runs was trained.

    Args:
        waiting: how many runs have not begun.
        ages: for how many seconds those under way have been.
        ended: by time, when each of the others ended, and for how many seconds it was trained: 0 where it had its
            result already.
        workers: how many runs go on at a time.
    """
    trained = [at for at, (_, seconds) in enumerate(ended) if seconds]
    if not trained:
        return None
    # The first run of each worker is longer than the others, by what it imports.
    each = mean(_took(ended, at) for at in trained[workers:] or trained)
    # Of those that wait some may have their results, too: as many as among those that ended lately.
    lately = trained[-1] - trained[0]
    share = (len(trained) - 1) / lately if lately else 1.0
    rest = [max(each - age, 0.0) for age in ages]
    return max((waiting * share * each + sum(rest)) / workers, *rest, 0.0)


def _took(ended: Sequence[tuple[float, float]], at: int) -> float:
    """Seconds from the end of the run before this one, as far as can be told, to its own end."""
    end, seconds = ended[at]
    return end - max((before for before, _ in ended[:at] if before <= end - seconds), default=end - seconds)


def _look(folder: Path, first: int) -> tuple[list[float], list[tuple[float, float]]]:
    """The runs under way and those that have ended, as `seconds_left` takes them."""
    ages, ended = [], []
    for run in folder.glob("[0-9]*"):
        if run.name.isdecimal() and int(run.name) < first:
            continue
        with suppress(OSError, ValueError):  # a file that is just being written
            try:
                ended.append(((run / DONE).stat().st_mtime, float((run / DONE).read_text() or 0)))
            except FileNotFoundError:
                ages.append(max(time.time() - run.stat().st_mtime, 0.0))
    return ages, sorted(ended)


class ProgressBar:
    """A bar over all steps of a run with running loss, accuracy and, in a wide window, largest absolute gradient.

    `done` of them were made before. Nothing is shown where stderr is not a terminal, or when `shown` is false
    (parallel sweeps).
    """

    def __init__(self, description: str, steps: int, shown: bool, done: int = 0) -> None:
        self._bar = None
        if shown and sys.stderr.isatty():  # else not even its lock is made, which workers would leave behind
            from tqdm import tqdm

            width = columns(sys.stderr) or WIDE
            self._wide = width >= WIDE
            self._bar = tqdm(
                total=steps,
                initial=done,
                desc=shortened(description, max(width - BAR_AND_NUMBERS - 25 * self._wide, 8)),
                leave=False,
                position=1,  # below that of the sweep, where there is one
                dynamic_ncols=True,
                bar_format=RUN_BAR,
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
            gradient = f", |gradient| ≤ {self._largest:.2g}" if self._wide else ""
            self._bar.set_postfix_str(
                f"loss {self._loss:.3f}, accuracy {self._accuracy:.1%}{gradient}", refresh=False
            )
        self._bar.update()
