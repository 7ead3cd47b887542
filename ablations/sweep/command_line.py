"""What a user typed, before Hydra reads it: its grammar has letters of ASCII alone, and one study at a time."""

import re
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from ablations.commands import say
from ablations.errors import InputError, foreseen, one_line, printable
from ablations.ground.paths import CONF, choice_file, choices
from ablations.sweep.overrides import has_key, quoted

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override
    from omegaconf import DictConfig

TEXT = re.compile(
    r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|[^\s,()\[\]'"=](?:[^,()\[\]'"=]*[^\s,()\[\]'"=])?"""
)
"""A quoted text, or one that Hydra's grammar would take for one if its letters were ASCII."""


KEPT = ("name", "tracking.experiment")
"""Keys whose texts are looked for in the store as they are."""

REPORTS: list[str] = []
"""Where the reports are that this command has written, in their order."""


def for_each_study(main: Callable[[], object]) -> None:
    """Call `main` with the command line as Hydra reads it, once for each study that is named.

    Of several studies one that fails does not keep the others from running; the last lines name all reports, and the
    exit code is 1. Raises InputError as `command_lines` does.
    """
    lines = command_lines(sys.argv[1:])
    if len(lines) == 1:
        (sys.argv[1:],) = lines
        main()
        return
    failed = 0
    for words in lines:
        sys.argv[1:] = words
        try:
            main()
        except SystemExit as end:
            failed += bool(end.code)
        except Exception as error:
            if not foreseen(error):
                raise
            failed += 1
            say(f"error: {one_line(error)}", sys.stderr)
    for report in REPORTS:
        say(f"report: {report}")
    if failed:
        say(f"{failed} of {len(lines)} studies failed", sys.stderr)
        sys.exit(1)


def hand_on(config: "DictConfig") -> None:
    """Do the one run that a configuration asks for, or say what it would be.

    Raises InputError where it is to be a study, which one run is not.
    """
    if config.until is not None and config.sweep.id is None:
        raise InputError(
            f"until={config.until}: one run has nothing to be compared with; accepted: a study, or -m"
        )
    if config.dry_run:
        from ablations.sweep.preview import preview_alone as run
    else:
        from ablations.experiment import run

    run(config)


def command_lines(words: Sequence[str]) -> list[list[str]]:
    """What Hydra is to be given, once for each study that is named; all but one as good as it was typed.

    Texts in letters of other scripts are quoted. A key that one of the swept choices lacks is written as a choice of
    one value, which Hydra leaves to the sweeper.

    Raises InputError for what cannot be read, with the way to write it.
    """
    if sys.flags.optimize:
        raise InputError("PYTHONOPTIMIZE, python -O: Hydra does not work without its assertions; unset it")
    given = {at: _parsed(_in_ascii(word), word) for at, word in enumerate(words) if _is_override(word)}
    given = {at: _without_password(each) for at, each in given.items()}
    words = [given[at].input_line if at in given else word for at, word in enumerate(words)]
    for at, each in given.items():
        if each.key_or_group in KEPT and words[at].encode(errors="ignore").decode() != words[at]:
            raise InputError(
                f"{printable(words[at])}: the store keeps texts of UTF-8 alone, which this is not"
            )
    several = [at for at, each in given.items() if each.key_or_group == "study" and each.is_sweep_override()]
    if not several:
        _require_multirun(words, given)
        return [_held_back(words, given)]
    (at,) = several
    studies = [_choice(text) for text in given[at].sweep_string_iterator()]
    there = choices("study")
    if unknown := [study for study in studies if study not in there]:
        raise InputError(
            f"study={unknown[0]}: there is no such choice; accepted: {', '.join(there)}, one or several"
        )
    if any(each.key_or_group == "name" for each in given.values()):
        raise InputError("name: each of several studies has a name of its own; leave it out")
    if twice := [study for study in studies if studies.count(study) > 1]:
        raise InputError(f"study={twice[0]}: it is named twice; each study is run once")
    lines = [[*words[:at], f"+study={study}", *words[at + 1 :]] for study in studies]
    return [line for each in lines for line in command_lines(each)]


def _is_override(word: str) -> bool:
    return "=" in word and not word.startswith("-")


def _in_ascii(word: str) -> str:
    """The override with its texts quoted that need it for their letters alone."""
    key, equals, value = word.partition("=")
    if value.isascii() or "{" in value:
        return word
    return key + equals + TEXT.sub(lambda text: text[0] if _is_plain(text[0]) else quoted(text[0]), value)


def _without_password(given: "Override") -> "Override":
    """The override with the shown form of a store's address: Hydra writes what it is given into many files."""
    from ablations.tracking.address import tell_workers

    if given.key_or_group != "tracking.uri" or not isinstance(given.value(), str):
        return given
    shown = tell_workers(given.value())
    if shown == given.value():
        return given
    word = f"{given.get_key_element()}={quoted(shown)}"
    return _parsed(word, word)


def _is_plain(text: str) -> bool:
    return text.isascii() or text[0] in "'\""


def _parsed(word: str, typed: str) -> "Override":
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        return OverridesParser.create().parse_override(word)
    except HydraException as error:
        key, _, value = typed.partition("=")
        try:
            OverridesParser.create().parse_override(f"{key}={quoted(value)}")
        except HydraException:
            line = " ".join(str(error).split())
            raise InputError(f"{typed}: {line}; accepted: key=value, as in trainer.epochs=5") from None
        raise InputError(
            f"{typed}: brackets, quotes and = have a meaning of their own; as one text: {_typed(key, value)}"
        ) from None


def _typed(key: str, value: str) -> str:
    """The override with this text as its value, as a shell takes it."""
    word = f"{key}={quoted(value)}"
    return shlex.quote(word) if re.search(r'[$`"!]|\\\\', word) else f'"{word}"'


def _require_multirun(words: Sequence[str], given: Mapping[int, "Override"]) -> None:
    """Raises InputError for several values where one run is asked for."""
    keys = {each.key_or_group for each in given.values()}
    if {"-m", "--multirun"} & set(words) or {"study", "hydra.mode"} & keys or "--cfg" in words:
        return
    for at, each in given.items():
        if each.is_sweep_override():
            key, _, value = words[at].partition("=")
            as_text = f"; one text with a comma: {_typed(key, value)}" if "," in value else ""
            raise InputError(f"{words[at]}: several values make a sweep, which takes -m{as_text}")


def _held_back(words: Sequence[str], given: Mapping[int, "Override"]) -> list[str]:
    """The words, with what Hydra cannot apply before each run has its own choice as a choice of one value."""
    swept = _swept_choices(given)
    found = list(words)
    for at, each in given.items():
        group, dot, key = each.key_or_group.partition(".")
        if not dot or group not in swept or each.is_sweep_override() or words[at][0] in "+~":
            continue
        if not all(has_key(group, choice, key) for choice in (*swept[group], _default(group))):
            found[at] = f"{each.key_or_group}=choice({words[at].partition('=')[2]})"
    return found


def _swept_choices(given: Mapping[int, "Override"]) -> dict[str, list[str]]:
    """By group what is swept of it, by the command line or by the study that it names."""
    from omegaconf import OmegaConf

    keys = {each.key_or_group: each for each in given.values()}
    swept: dict[str, list[str]] = {}
    file = None
    if "study" in keys:
        file = choice_file("study", _choice(keys["study"].get_value_element_as_str()))
    if file is not None:
        factors = OmegaConf.to_container(OmegaConf.load(file)).get("study", {}).get("factors", {})
        swept = {key: list(map(str, of)) for key, of in factors.items() if key not in keys}
    for key, each in keys.items():
        if each.is_discrete_sweep() and (there := choices(key)):
            everything = each.value_type.name == "GLOB_CHOICE_SWEEP"
            swept[key] = there if everything else list(map(_choice, each.sweep_string_iterator()))
    return swept


def _choice(text: str) -> str:
    return text.strip("'\"")


def _default(group: str) -> str:
    from omegaconf import OmegaConf

    parts = OmegaConf.to_container(OmegaConf.load(CONF / "config.yaml"))["defaults"]
    return next((part[group] for part in parts if isinstance(part, dict) and group in part), "")
