"""The sweeper of this project, where Hydra looks for its plugins; what it does is in `ablations.sweep.sweep`."""

from dataclasses import replace
from typing import Any

from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from ablations.commands import here
from ablations.errors import InputError
from ablations.ground.paths import CLONE, HOME

COMPLETION = 'eval "$(python run.py -sc install=bash)"' if CLONE else 'eval "$(ablations completion bash)"'


def _keys_for_users(*, _root_: DictConfig) -> str:
    """The configuration as `--help` shows it: without what the sweep itself tells its runs."""
    shown = OmegaConf.to_container(_root_)
    del shown["hydra"]
    shown["sweep"] = {"at_once": shown["sweep"]["at_once"]}
    return OmegaConf.to_yaml(shown).replace("$", "$$")  # the help is a string.Template


OmegaConf.register_new_resolver("keys_for_users", _keys_for_users, replace=True)
OmegaConf.register_new_resolver("run_command", lambda: here("python run.py"), replace=True)
OmegaConf.register_new_resolver("completion_command", lambda: COMPLETION.replace("$", "$$"), replace=True)
OmegaConf.register_new_resolver("project_folder", lambda: str(HOME), replace=True)


class AblationsSweeper(Sweeper):
    """Expands a study's design and the command line into runs, launches them, and compiles their report."""

    def __init__(self, params: dict[str, str] | None) -> None:
        self.params = params or {}

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        from hydra.core.plugins import Plugins

        from ablations.sweep.composing import Composer

        hydra_context = replace(hydra_context, config_loader=Composer.of(hydra_context.config_loader))
        self.hydra_context, self.config = hydra_context, config
        try:
            self.launcher = Plugins.instance().instantiate_launcher(
                hydra_context=hydra_context, task_function=task_function, config=config
            )
        except (ImportError, RuntimeError) as error:  # it knows no such class
            choice = config.hydra.runtime.choices["hydra/launcher"]
            extra = choice.partition("_")[0]
            package = f"-e '.[{extra}]'" if CLONE else f"hydra-{extra}-launcher"
            raise InputError(
                f"hydra/launcher={choice} is not installed: python -m pip install {package} (docs/clusters.md)"
            ) from error

    def sweep(self, arguments: list[str]) -> Any:
        from ablations.sweep.sweep import sweep

        params = [f"{key}={value}" for key, value in self.params.items()]
        return sweep(self.config, self.hydra_context.config_loader, self.launcher, [*params, *arguments])
