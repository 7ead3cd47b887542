"""Train LeNet-5 under chosen design choices and track the run; with -m a whole sweep, and its report.

python run.py -m activation=relu,tanh pool=max,avg
"""

import sys

import hydra
from omegaconf import DictConfig

from ablations.commands import one_line_errors
from ablations.sweep.command_line import command_lines


@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def main(config: DictConfig) -> None:
    """Hand the composed configuration on."""
    if config.dry_run:
        from ablations.sweep.preview import preview_alone as run
    else:
        from ablations.experiment import run

    run(config)


if __name__ == "__main__":
    with one_line_errors("interrupted: the same command goes on from here"):
        failed = 0
        for words in command_lines(sys.argv[1:]):
            sys.argv[1:] = words
            try:
                main()
            except SystemExit as end:  # of several studies the others go on
                failed = failed or end.code
        sys.exit(failed)
