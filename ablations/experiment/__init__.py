"""One run: a composed configuration comes in, a tracked run with its result goes out.

`run` tells the story; `job` says what is asked and how it is recognised again, `resume` decides what is left to do,
`lease` and `checkpoints` guard a training that others may want, too, `record` writes it to the store, `metrics` are
what is logged, `artifacts` what it leaves behind, `trial` what a study's tuning tells a run, `evaluation` what else is
measured once it is trained. This room knows `training`, `predict` and `tracking`, and nothing of
sweeps or comparisons.
"""

from ablations.experiment.run import run

__all__ = ["run"]
