"""What a run shows while it trains."""

import sys
from types import TracebackType

from ablations.training import Step

REFRESH_STEPS = 10


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
