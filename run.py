"""Train LeNet-5 under chosen design choices and track the run; with -m a whole sweep, and its report.

python run.py -m activation=relu,tanh pool=max,avg
"""

import hydra
from omegaconf import DictConfig

from ablations.commands import one_line_errors, require_usable_folders
from ablations.sweep.command_line import for_each_study, hand_on


@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def main(config: DictConfig) -> None:
    """Hand the composed configuration on."""
    hand_on(config)


if __name__ == "__main__":
    with one_line_errors("interrupted: the same command goes on from here"):
        require_usable_folders()
        for_each_study(main)
