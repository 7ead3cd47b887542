"""The configuration of each run of a sweep, as Hydra composes it, without having Hydra compose all of them.

Hydra reads and merges a score of files for each run, which takes a tenth of a second, when a sweep is planned and once
more when it is launched. Here runs that differ in plain values alone share one composition, and a combination of
choices each of which changes its own section alone is put together from theirs.
"""

import pickle
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from hydra._internal.config_loader_impl import ConfigLoaderImpl, get_overrides_dirname
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

if TYPE_CHECKING:
    from hydra._internal.config_repository import IConfigRepository
    from hydra.core.config_loader import ConfigLoader
    from hydra.core.config_search_path import ConfigSearchPath
    from hydra.core.default_element import ResultDefault
    from hydra.core.override_parser.types import Override

Words = tuple[str, ...]
Files = tuple[tuple[str | None, str], ...]
"""The files of a composition in the order in which they are merged, each with the place where its content comes."""


@dataclass(frozen=True)
class PlannedRun:
    """The configuration of one run, as the run will see it, and the choices that it was composed of."""

    config: DictConfig
    choices: Mapping[str, str | None]

    @classmethod
    def composed(cls, config: DictConfig) -> "PlannedRun":
        """Part Hydra's own section from the rest."""
        with open_dict(config):
            hydra = config.pop("hydra")
        return cls(config, OmegaConf.to_container(hydra.runtime.choices))

    def logged(self, key: str) -> str:
        """The value of a key as the run logs it: the choice of a group, else the value as text."""
        choice = self.choices.get(key)
        return str(OmegaConf.select(self.config, key) if choice is None else choice)


def composed(loader: "ConfigLoader", config: DictConfig, runs: Sequence[Sequence[str]]) -> list[PlannedRun]:
    """The configuration of each run, as Hydra will compose it.

    Args:
        loader: Hydra's.
        config: that of the sweep.
        runs: the overrides of each.
    """
    composer = Composer.of(loader)
    return [composer.planned(config, run) for run in runs]


class Composer(ConfigLoaderImpl):
    """Hydra's loader, which composes once what many runs share.

    What was composed stays in the process: launchers hand each run a loader of its own, as bytes. What files of conf/
    become meanwhile is nothing to a sweep that goes on.
    """

    @classmethod
    def of(cls, loader: "ConfigLoader") -> "Composer":
        """That of Hydra's own loader."""
        return loader if isinstance(loader, cls) else cls(loader.get_search_path())

    def __init__(self, config_search_path: "ConfigSearchPath") -> None:
        super().__init__(config_search_path)
        self._id = uuid4().hex
        self._merged: Files = ()

    @property
    def _shared(self) -> "_Shared":
        return _SHARED.setdefault(self._id, _Shared())

    def load_sweep_config(self, master_config: DictConfig, sweep_overrides: list[str]) -> DictConfig:
        """What Hydra's own loader gives, equal in every value."""
        words = (*master_config.hydra.overrides.hydra, *sweep_overrides)
        try:
            config, choices = self._put_together(master_config, words, whole=True)
        except OmegaConfBaseException:  # Hydra's own words say what is wrong
            return super().load_sweep_config(master_config, sweep_overrides)
        overrides = list(map(_parsed, words))
        ours = [each for each in overrides if not each.is_hydra_override()]
        hydra = config.hydra
        hydra.runtime.choices = choices
        hydra.overrides.task = [each.input_line for each in ours]
        hydra.overrides.hydra = [each.input_line for each in overrides if each.is_hydra_override()]
        rules = hydra.job.config.override_dirname
        name = get_overrides_dirname(ours, list(rules.exclude_keys), rules.item_sep, rules.kv_sep)
        hydra.job.override_dirname = name
        return config

    def planned(self, master_config: DictConfig, sweep_overrides: Sequence[str]) -> PlannedRun:
        """The same without Hydra's own section."""
        words = (*master_config.hydra.overrides.hydra, *sweep_overrides)
        try:
            return PlannedRun(*self._put_together(master_config, words, whole=False))
        except OmegaConfBaseException:
            return PlannedRun.composed(super().load_sweep_config(master_config, list(sweep_overrides)))

    def _put_together(
        self, master: DictConfig, words: Words, whole: bool
    ) -> tuple[DictConfig, dict[str, str | None]]:
        """A configuration and its choices, with Hydra's own section, as some other run has it, or without.

        Raises OmegaConfBaseException for what cannot be set.
        """
        # Overrides keep their order: none that adds or deletes something may come before one that it came after.
        # Where there are further folders of groups, any word may choose for one of those.
        unclear = bool(master.hydra.searchpath)
        odd = (
            at
            for at, word in enumerate(words)
            if unclear or not (self._is_plain(word) or self._is_choice(word))
        )
        last = max(odd, default=-1)
        shared = tuple(word for at, word in enumerate(words) if at <= last or not self._is_plain(word))
        plain = [word for word in words[last + 1 :] if self._is_plain(word)]
        first = self._shared.first.get(len(shared), shared)
        changed = self._independent(master, shared, first)
        base = self._base(master, first if changed else shared)
        self._shared.first.setdefault(len(shared), shared)  # only what can be composed
        own, choices = deepcopy(base.whole) if whole else pickle.loads(base.task), dict(base.choices)
        for key, alone in changed.items():
            own[key], choices[key] = alone.config[key], alone.choices[key]
        for word in plain:
            override = _parsed(word)
            OmegaConf.update(own, override.key_or_group, override.value(), merge=True)
        OmegaConf.copy_cache(from_config=master, to_config=own)
        return own, choices

    def _independent(self, master: DictConfig, words: Words, first: Words) -> "dict[str, _Base]":
        """Where several choices are other ones than those of the first run, and each of them changes its own section
        alone: by section the composition with this change alone. Else nothing."""
        changed = [at for at, (ours, its) in enumerate(zip(words, first, strict=False)) if ours != its]
        if len(words) != len(first) or len(changed) < 2:
            return {}
        found, base = {}, self._base(master, first)
        for at in changed:
            key = _parsed(words[at]).key_or_group
            if not (self._is_choice(words[at]) and _parsed(first[at]).key_or_group == key):
                return {}
            found[key] = self._base(master, (*first[:at], words[at], *first[at + 1 :]))
            if key not in base.config or found[key].rest(key) != base.rest(key):
                return {}
        return found if len(found) == len(changed) else {}

    def _base(self, master: DictConfig, words: Words) -> "_Base":
        """What Hydra composes of these overrides."""
        if words not in self._shared.bases:
            name = master.hydra.job.config_name
            config = self.load_configuration(name, list(words), RunMode.RUN)
            self._shared.bases[words] = _Base.of(config, self._merged)
        return self._shared.bases[words]

    def _compose_config_from_defaults_list(
        self, defaults: "list[ResultDefault]", repo: "IConfigRepository"
    ) -> DictConfig:
        self._merged = tuple((each.config_path, each.package or "") for each in defaults)
        return super()._compose_config_from_defaults_list(defaults, repo)

    def _is_choice(self, word: str) -> bool:
        """Whether an override chooses for a group in its usual place."""
        override = _parsed(word)
        return override.package is None and not override.is_delete() and self._is_group(override.key_or_group)

    def _is_plain(self, word: str) -> bool:
        """Whether an override sets a value that is there."""
        override = _parsed(word)
        special = override.is_add() or override.is_force_add() or override.is_delete()
        special = special or override.package is not None or override.is_sweep_override()
        key = override.key_or_group
        return not special and not key.startswith("hydra") and not self._is_group(key)

    def _is_group(self, key: str) -> bool:
        groups = self._shared.groups
        if key not in groups:
            groups[key] = bool(self.get_group_options(key))
        return groups[key]


@dataclass(frozen=True)
class _Base:
    """One composition.

    Attributes:
        whole: all of it. It cannot be pickled: Hydra loads its plugins twice, so that their classes are not those that
            their modules have.
        task: the same without Hydra's own section, pickled: reading it takes a tenth of the time of a copy.
        config: the latter, to be looked at.
        choices: of groups.
    """

    whole: DictConfig
    task: bytes
    config: DictConfig
    choices: Mapping[str, str | None]
    _content: tuple[Mapping[str, Any], ...]
    _files: Files

    @classmethod
    def of(cls, config: DictConfig, files: Files) -> "_Base":
        whole = deepcopy(config)
        hydra = OmegaConf.to_container(config.hydra)
        choices = hydra["runtime"].pop("choices")
        del hydra["overrides"], hydra["job"]["override_dirname"]
        task = PlannedRun.composed(config).config
        content = OmegaConf.to_container(task), choices, hydra
        return cls(whole, pickle.dumps(task), task, choices, content, files)

    def rest(self, key: str) -> tuple[object, ...]:
        """All but one section, its choice and the files merged into it alone.

        What a file writes elsewhere may be what is there already, and make a difference beside another choice only.
        """
        content = ({name: value for name, value in each.items() if name != key} for each in self._content)
        return *content, [file for file in self._files if file[1].partition(".")[0] != key]


@dataclass
class _Shared:
    """What runs of one command share in one process: compositions by their overrides, the first of so many overrides,
    and which keys are groups."""

    bases: dict[Words, _Base] = field(default_factory=dict)
    first: dict[int, Words] = field(default_factory=dict)
    groups: dict[str, bool] = field(default_factory=dict)


_SHARED: dict[str, _Shared] = {}


@cache
def _parsed(word: str) -> "Override":
    return OverridesParser.create().parse_overrides([word])[0]
