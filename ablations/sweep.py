"""What happens around a sweep: its name and store before the first run, its report after the last."""

import shlex
import sys
from datetime import UTC, datetime

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf, read_write

from ablations.errors import InputError, one_line
from ablations.tracking.store import prepare, tracking_uri


class SweepCallback(Callback):
    """Called by Hydra in the parent process only, so that the store exists before any worker starts."""

    def on_multirun_start(self, config: DictConfig, **kwargs: object) -> None:
        """Give the sweep its name, its id and its factors, and make the store."""
        factors = [key for key in _swept_keys(config) if key != "seed"]
        name = config.name or "-".join(factors) or "seed"
        tell_jobs = {
            "name": name,
            "sweep.id": config.sweep.id or datetime.now(UTC).strftime("%Y%m%dT%H%M%S%f"),
            "sweep.factors": factors,
            "sweep.command": shlex.join(["python", "run.py", *sys.argv[1:]]),
        }
        with read_write(config.hydra.overrides):
            for key, value in tell_jobs.items():
                # Hydra hands these on to every job, whatever the launcher, and prints them nowhere.
                config.hydra.overrides.hydra.append(f"{key}={_quoted(value)}")
                OmegaConf.update(config, key, value)
        try:
            prepare(tracking_uri(config.tracking.uri), config.tracking.experiment)
        except InputError as error:  # Hydra turns exceptions of callbacks into warnings
            sys.exit(f"error: {one_line(error)}")

    def on_multirun_end(self, config: DictConfig, **kwargs: object) -> None:
        """Compile the report and say where it is; exit code 1 where a run failed."""
        from ablations.report import compile_report

        try:
            report = compile_report(config.name, tracking_uri(config.tracking.uri))
        except InputError as error:
            sys.exit(f"error: {one_line(error)}")
        print(f"\n{report.summary}\n")
        print(f"report: {report.path}")
        print(f"look at the runs: python -m ablations.ui {shlex.quote(report.name)}")
        if report.failed:
            sys.exit(1)


def _swept_keys(config: DictConfig) -> list[str]:
    """Keys with more than one value, in the order in which they were given."""
    parser = OverridesParser.create()
    given = list(config.hydra.overrides.task)
    params = OmegaConf.select(config, "hydra.sweeper.params") or {}
    given += [f"{key}={value}" for key, value in params.items()]
    keys = [o.key_or_group for o in parser.parse_overrides(given) if o.is_sweep_override()]
    return list(dict.fromkeys(keys))


def _quoted(value: str | list[str]) -> str:
    """A value in Hydra's override grammar."""
    if isinstance(value, list):
        return "[" + ",".join(_quoted(item) for item in value) + "]"
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
