"""From what a user asks for to its runs and their report.

In comes the configuration of conf/ with the overrides of the command line; out go the overrides of each run, which
Hydra's launcher hands to `ablations.experiment`, and the record of the study, which is kept in the store for the
report. This room knows the experiment (to hash and time what it plans), the store and the report: once all runs are
through, or after each round of a study that runs until it is settled. Nobody but Hydra's plugin and the commands that
compose a configuration know this room. `trained` starts a single run from Python.
"""
