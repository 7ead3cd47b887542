"""What is logged: every so many steps, after each epoch, and once at the end; accuracies as fractions, times in s."""

from ablations.training.loop import Epoch, Evaluation, Step

EVERY_EPOCH = "train/loss"
"""A metric that every epoch has, and nothing else."""


def step_metrics(step: Step) -> dict[str, float]:
    """Of a step, where `tracking.every_steps` asks for it."""
    return {"step/loss": step.loss, "step/accuracy": step.accuracy}


def epoch_metrics(epoch: Epoch) -> dict[str, float]:
    """Of an epoch; those of validation where there are such images."""
    metrics = {
        EVERY_EPOCH: epoch.train_loss,
        "train/accuracy": epoch.train_accuracy,
        "train/grad_max_abs": epoch.grad_max_abs,
        "time/epoch_s": epoch.seconds,
        "time/images_per_s": epoch.images_per_s,
    }
    if epoch.val_loss is not None:
        metrics |= {"val/loss": epoch.val_loss, "val/accuracy": epoch.val_accuracy}
    return metrics | {f"optimizer/{name}": value for name, value in epoch.optimizer.items()}


def test_metrics(test: Evaluation) -> dict[str, float]:
    """Of the test images; the error is in %, 1.23 and not 1.2299999999999986."""
    return {
        "test/loss": test.loss,
        "test/accuracy": test.accuracy,
        "test/error_pct": round(100 * (1 - test.accuracy), 10),
        "test/confidence": float(test.confidences.mean()),
        **{f"test/{name}": value for name, value in test.further.items()},
    }
