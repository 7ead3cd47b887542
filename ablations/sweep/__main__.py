"""`ablations run`: what run.py does in a clone, for an installed package."""

import os

import hydra
from omegaconf import DictConfig

from ablations.commands import one_line_errors, require_usable_folders
from ablations.ground.paths import CONF, HOME
from ablations.sweep.command_line import for_each_study, hand_on
from ablations.sweep.overrides import find_plugins


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
def train(config: DictConfig) -> None:
    """Hand the composed configuration on."""
    hand_on(config)


def main() -> None:
    """The command."""
    os.environ["ABLATIONS_HOME"] = str(HOME)  # for workers in other folders
    find_plugins()
    with one_line_errors("interrupted: the same command goes on from here"):
        require_usable_folders()
        for_each_study(train)


if __name__ == "__main__":
    main()
