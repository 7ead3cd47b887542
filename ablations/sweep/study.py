"""From the `study:` section of the configuration to the record of the study, which is kept beside its runs."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from omegaconf import OmegaConf

from ablations.errors import InputError
from ablations.sweep.plan import Plan, PlannedRun
from ablations.tracking.store import EXPERIMENT_TAG_CHARACTERS, Store
from ablations.tracking.study import Study, tag_of

OF_THE_PLAN = {"seeds", "reproduces"}
"""Keys of the section that the record of a study does not have."""


def study_of(
    name: str, section: Mapping[str, Any], planned: Plan, runs: Sequence[PlannedRun], command: str
) -> Study:
    """The study as the report needs it: levels as the runs will log them, of the claims those that they can answer.

    Raises InputError for a key that no study has.
    """
    if unknown := section.keys() - {each.name for each in fields(Study)} - OF_THE_PLAN:
        raise InputError(f"study.{min(unknown)}: there is no such key; accepted: those of conf/config.yaml")
    logged = {key: list(dict.fromkeys(run.logged(key) for run in runs)) for key in planned.factors}
    wanted = {key: str(level) for key, level in section["baseline"].items()}
    found = {
        "name": name,
        "factors": planned.factors,
        "baseline": {key: wanted[key] if wanted.get(key) in of else of[0] for key, of in logged.items()},
        "nuisance": planned.nuisance,
        "claims": [
            claim
            for claim in section["claims"]
            if {str(claim["variant"]), str(claim["baseline"])} <= set(logged.get(claim["factor"], ()))
        ],
        "published": _published(section["reproduces"], runs),
        "command": command,
    }
    return Study.read({**section, **found})


def _published(experiments: Sequence[str], runs: Sequence[PlannedRun]) -> dict[str, Any]:
    """What was published of those of the experiments that are run, as each has it in conf/experiment/."""
    composed = {run.choices.get("experiment"): run.config.study.published for run in runs}
    return {name: OmegaConf.to_container(composed[name][name]) for name in experiments if name in composed}


def keep(study: Study, store: Store, experiment_id: str) -> None:
    """Leave the study in a tag of its experiment. Raises InputError where it is too long for that."""
    text = study.to_json()
    if len(text) > EXPERIMENT_TAG_CHARACTERS:
        raise InputError(
            f"study {study.name}: its text has {len(text)} characters, {EXPERIMENT_TAG_CHARACTERS} can be kept; "
            "shorten published, sections or claims"
        )
    store.tag_experiment(experiment_id, tag_of(study.name), text)
