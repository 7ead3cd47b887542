"""What a run came to, and how that is told."""

from dataclasses import dataclass

from ablations.commands import say
from ablations.errors import one_line
from ablations.experiment.trial import PrunedError
from ablations.tracking.earlier import EarlierRun
from ablations.training.loop import DivergedError

DID_NOT_LEARN = "did_not_learn"
"""The tag of a run whose network is worth nothing."""

UNTAUGHT = ": it did not learn, always answering the most frequent class errs no more"


@dataclass(frozen=True)
class Result:
    """What a job came to, as the store has it: the test accuracy of its run, or the error that it failed with.

    `learned` is whether the accuracy is worth anything, `remark` says where the result is not from now.
    """

    run_id: str
    accuracy: float | None = None
    error: Exception | None = None
    learned: bool = True
    remark: str = ""

    @classmethod
    def of(cls, run: EarlierRun) -> "Result":
        """The result that a run of the store has."""
        if run.status != "FINISHED":
            reason = run.tags.get("failure_reason", "diverged")
            again = f"as before (run {run.run_id}; tracking.rerun=true trains it again)"
            return cls(run.run_id, error=DivergedError(f"{reason}, {again}"))
        remark = f"already finished (run {run.run_id}), "
        return cls(
            run.run_id, run.metrics["test/accuracy"], learned=DID_NOT_LEARN not in run.tags, remark=remark
        )

    @property
    def test_error(self) -> str:
        """In per cent, with a word where the network is worth nothing."""
        return f"test error {100 * (1 - self.accuracy):.2f} %{'' if self.learned else UNTAUGHT}"

    def say(self, name: str, seconds: float) -> None:
        """Print the line of a sweep's run."""
        outcome = f"FAILED: {one_line(self.error)}" if self.error else f"{self.remark}{self.test_error}"
        if isinstance(self.error, PrunedError):
            outcome = one_line(self.error)
        say(f"{name}: {outcome}, {seconds:.1f} s")
