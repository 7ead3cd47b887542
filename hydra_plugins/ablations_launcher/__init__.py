"""A launcher of this project, where Hydra looks for its plugins."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any

from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class BoundedSubmititLauncher(Launcher):
    """Submitit on this machine, which would start all jobs at once, `sweep.at_once` jobs at a time."""

    def __init__(self, **params: Any) -> None:
        self.params = params

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        from hydra_plugins.hydra_submitit_launcher.submitit_launcher import LocalLauncher
        from joblib import cpu_count

        self.at_once = config.sweep.at_once or cpu_count()
        self.launcher = LocalLauncher(**self.params)
        self.launcher.setup(hydra_context=hydra_context, task_function=task_function, config=config)

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        pool = ThreadPoolExecutor(self.at_once)
        try:
            started = [
                pool.submit(self.launcher.launch, [overrides], job_index)
                for job_index, overrides in enumerate(job_overrides, initial_job_idx)
            ]
            wait(started)  # all of them, before the error of one is raised
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
        return [job.result()[0] for job in started]
