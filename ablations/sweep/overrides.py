"""Hydra's overrides: composing a configuration from them, reading those of a command line, writing values as them."""

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ablations.errors import InputError
from ablations.ground.paths import CLONE, CONF, ROOT, choice_file

if TYPE_CHECKING:
    from hydra.core.config_loader import ConfigLoader
    from hydra.core.override_parser.types import Override
    from omegaconf import DictConfig

FORMATS = "figures.format"


@dataclass(frozen=True)
class Given:
    """One key of the command line.

    Attributes:
        values: as Hydra writes them.
        swept: whether they are several by intention.
        prefix: of the override: `+` adds a key, `++` adds or overrides it.
        line: the override as it was given.
    """

    values: tuple[str, ...]
    swept: bool
    prefix: str
    line: str


def find_plugins() -> None:
    """Let Hydra find a clone's own hydra_plugins/, whichever folder the command is started from."""
    if CLONE and str(ROOT) not in sys.path:
        sys.path.append(str(ROOT))


def compose(*overrides: str) -> "DictConfig":
    """The configuration of run.py with these overrides, for all that is not started by Hydra itself."""
    import hydra

    find_plugins()
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        return hydra.compose("config", overrides=list(overrides))


def read_overrides(loader: "ConfigLoader", arguments: Sequence[str]) -> dict[str, Given]:
    """The overrides of a command line by key. Raises InputError for a sweep over anything but single values."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    given = {}
    for override in OverridesParser.create(config_loader=loader).parse_overrides(list(arguments)):
        key = override.key_or_group
        swept = override.is_sweep_override()
        if swept and key != FORMATS:
            _require_sweepable(override)
        values = tuple(override.sweep_string_iterator()) if swept else (override.get_value_element_as_str(),)
        line = override.input_line or ""
        if swept and key == FORMATS:  # several at once, not one after the other
            values, swept = (f"[{','.join(values)}]",), False
            line = f"{key}={values[0]}"
        prefix = override.get_key_element()[: -len(key)] if not override.is_delete() else ""
        given[key] = Given(values, swept, prefix, line)
    return given


def _require_sweepable(override: "Override") -> None:
    """Raises InputError for a sweep that would have no factor."""
    from ablations.experiment.job import NOT_DETERMINING, is_below, leaves

    key = override.key_or_group
    if not override.is_discrete_sweep():
        raise InputError(f"{key}: only lists of values, range(…) and glob(…) can be swept")
    if is_below(key, {*NOT_DETERMINING} - {"dataset.root"}):
        raise InputError(f"{key}: it does not change what a run is, so that it cannot be swept")
    listed = getattr(override.value(), "list", ())
    sections = [dict(leaves({key: each})) for each in listed if isinstance(each, Mapping)]
    if sections:
        keys = dict.fromkeys(name for section in sections for name in section)
        values = {
            name: dict.fromkeys(override_value(s[name]) for s in sections if name in s) for name in keys
        }
        apart = " ".join(f"{name}={','.join(each)}" for name, each in values.items())
        pairs = " (every combination; values that belong together: levels of a study, docs/extending.md)"
        several = sum(len(each) > 1 for each in values.values()) > 1
        raise InputError(
            f"{key}: sections cannot be swept, only single values: {apart}{pairs if several else ''}"
        )


def has_key(group: str, choice: str, key: str) -> bool:
    """Whether a choice of conf/ has a key below its group's; True where its own file does not tell."""
    from omegaconf import OmegaConf

    file = choice_file(group, choice)
    if file is None:
        return True
    node = OmegaConf.to_container(OmegaConf.load(file))
    if "defaults" in node:
        return True
    for part in key.split("."):
        if not isinstance(node, Mapping) or part not in node:
            return isinstance(node, str)  # of an interpolation
        node = node[part]
    return True


def override_value(value: Any) -> str:
    """A value of a YAML file in Hydra's override grammar."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{override_value(item)}" for key, item in value.items()) + "}"
    if not isinstance(value, str):
        return "[" + ",".join(map(override_value, value)) + "]"
    plain = value.isascii() and value.replace("_", "").replace(".", "").isalnum()
    return value if plain else quoted(value)


def quoted(text: str) -> str:
    """Any text as one value in Hydra's override grammar, where backslashes are escaped before a quote only."""
    escaped = re.sub(r"(\\*)('|\Z)", lambda found: 2 * found[1] + ("\\'" if found[2] else ""), text)
    return f"'{escaped}'"
