"""A store whose runs are made one by one, as `ablations.tracking.reader.Reader` would give them."""

from pathlib import Path

import numpy as np
import pandas as pd

from ablations.tracking.columns import column, tag
from ablations.tracking.study import Study, tag_of

METRICS = ("train/loss", "train/accuracy", "val/loss", "val/accuracy", "time/epoch_s")


class Store:
    """Runs as the reader gives them, made one by one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rows: list[dict] = []
        self.points: list[tuple] = []
        self.studies: dict[str, str] = {}
        self.out_of_reach: set[str] = set()

    def keep(self, study: Study) -> None:
        """As a sweep does before its first run."""
        self.studies[tag_of(study.name)] = study.to_json()

    def add(
        self,
        error: float | None = 5.0,
        *,
        sweep: str = "s",
        invocation: str = "1",
        factors: str = "activation",
        status: str = "FINISHED",
        seed: int = 0,
        epochs: int = 2,
        validation: bool = True,
        predictions: bool = False,
        misread: "np.ndarray | None" = None,
        metrics: dict | None = None,
        tags: dict | None = None,
        **params: object,
    ) -> str:
        """A run, and its id. `misread`: which of 360 test images, where predictions are those of its error."""
        number = len(self.rows)
        run_id = f"{number:032x}"
        params = {
            "activation": "relu",
            "pool": "max",
            "dataset": "digits",
            "trainer.epochs": epochs,
            **params,
        }
        start = pd.Timestamp("2024-05-01", tz="UTC") + pd.Timedelta(minutes=number)
        ended = status != "RUNNING"
        row = {
            "run_id": run_id,
            "run_name": " ".join(f"{key}={params.get(key)}" for key in factors.split(",") if key)
            + f" seed={seed}",
            "experiment_id": "1",
            "experiment": "lenet5",
            "status": status,
            "start_time": start,
            "end_time": start + pd.Timedelta(seconds=8) if ended else pd.NaT,
            "seconds": 8.0 if ended else np.nan,
            "artifact_uri": f"file:///nowhere/{run_id}",
            **{f"params.{key}": str(value) for key, value in params.items()},
            "params.seed": str(seed),
            "params.network.parameters": "61706",
            "params.dataset.train_images": str(params.get("dataset.train_images", 1150)),
            "params.dataset.test_images": "360",
            "tags.sweep": sweep,
            "tags.sweep_id": invocation,
            "tags.factors": factors,
            "tags.command": f"python run.py -m name={sweep}",
            "tags.config_hash": repr(sorted({**params, "seed": seed}.items())),
            "tags.stream": f"stream of seed {seed}",
            "tags.data_sha256": "d1" * 32,
            "tags.code": "0123abc",
            "tags.machine": "2 cores, Linux",
        }
        row |= {f"tags.{key}": value for key, value in (tags or {}).items()}
        for epoch in range(1, epochs + 1):
            accuracy = 1 - (error or 50) / 100 - 0.5 * 0.4**epoch
            values = [1.4 * 0.5**epoch, accuracy, 1.5 * 0.52**epoch, accuracy - 0.01, 1.5]
            for name, value in zip(METRICS, values, strict=True):
                if validation or not name.startswith("val"):
                    self.points.append((run_id, name, epoch, value))
                    row[f"metrics.{name}"] = value
        if error is not None and status == "FINISHED":
            row |= {"metrics.test/error_pct": error, "metrics.test/accuracy": 1 - error / 100}
            row |= {"metrics.test/loss": error / 20}
            row |= {"metrics.val/accuracy": 1 - error / 99} if validation else {}
        row |= {f"metrics.{name}": value for name, value in (metrics or {}).items()}
        if predictions or misread is not None:
            labels = np.arange(360) % 10
            wrong = np.arange(360) % 25 == 3 if misread is None else misread
            read = np.where(wrong, (labels + 1) % 10, labels)
            path = self.folder / run_id / "predictions.npz"
            path.parent.mkdir(parents=True)
            np.savez(path, labels=labels, predictions=read, confidences=np.ones(360))
        self.rows.append(row)
        return run_id

    # The reader's API

    def runs(self, experiment: str | None = None, tags: dict | None = None) -> pd.DataFrame:
        frame = pd.DataFrame(self.rows)
        for key, value in (tags or {}).items():
            frame = frame[column(frame, tag(key)) == value]
        return frame.dropna(axis=1, how="all").reset_index(drop=True)

    def records(self, experiment: str | None = None, tags: dict | None = None) -> list[dict]:
        wanted = {tag(key): value for key, value in (tags or {}).items()}
        return [row for row in self.rows if wanted.items() <= row.items()]

    def experiment_tags(self, experiment_id: str) -> dict[str, str]:
        return self.studies

    def histories(self, run_ids: list[str], metrics: list[str] | None = None) -> pd.DataFrame:
        frame = pd.DataFrame(self.points, columns=["run_id", "metric", "step", "value"])
        keep = frame["run_id"].isin(run_ids) & (frame["metric"].isin(metrics) if metrics else True)
        return frame[keep].reset_index(drop=True)

    def artifact(self, run_id: str, path: str) -> Path | None:
        found = self.folder / run_id / path
        return found if found.exists() else None
