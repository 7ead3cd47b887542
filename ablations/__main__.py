"""`ablations COMMAND …`: the commands of an installed package; each is imported when it is asked for."""

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import version

COMMANDS = {
    "run": ("sweep.__main__", "train: one run, or with -m a sweep and its report"),
    "report": ("report.__main__", "compare the runs of a sweep, or anybody's MLflow runs"),
    "ui": ("ui", "the MLflow UI, with a sweep's runs side by side"),
    "predict": ("predict.__main__", "read digits in image files with a tracked run's network"),
    "describe": ("describe", "the network as a table"),
    "sync": ("sync", "deliver what runs could not send to a store that was away"),
    "export-images": ("export_images", "a data set as image files"),
}

USAGE = """\
usage: ablations COMMAND …

{}

  completion           print what a shell needs for tab completion: ablations completion bash|zsh|fish

examples:
  ablations run -m activation=relu,tanh pool=max,avg     a sweep of four networks, then its report
  ablations report --tracking-uri URI --experiment NAME --factors lr,arch --metric val_acc
  ablations COMMAND --help                               more of each

mlruns/ and reports/ are made in the folder that ABLATIONS_HOME names, else in the nearest one from here upwards with
an ablations.yaml or a conf/, else here."""

BASH = """\
_ablations() {
    local IFS=$'\\n'
    COMPREPLY=($(COMP_WORDBREAKS= ablations complete "${COMP_LINE:0:$COMP_POINT}" 2>/dev/null))
}
COMP_WORDBREAKS=${COMP_WORDBREAKS//=}
complete -o nospace -o default -F _ablations ablations"""
SCRIPTS = {
    "bash": BASH,
    "zsh": f"autoload -Uz bashcompinit && bashcompinit\n{BASH}",
    "fish": "complete -c ablations -a '(ablations complete (commandline -cp) 2>/dev/null)'",
}


def main() -> None:
    """Do what the first word names with the words behind it."""
    name, *rest = sys.argv[1:] or ["--help"]
    if name in ("-h", "--help", "help"):
        width = max(map(len, COMMANDS))
        print(
            USAGE.format("\n".join(f"  {each:{width}}        {does}" for each, (_, does) in COMMANDS.items()))
        )
    elif name == "--version":
        print(f"lenet5-ablations {version('lenet5-ablations')}")
    elif name == "completion" and rest and rest[0] in SCRIPTS:
        print(SCRIPTS[rest[0]])
    elif name == "complete":
        print("\n".join(completions(" ".join(rest))))
    elif name in COMMANDS:
        from ablations.commands import one_line_errors

        sys.argv = [f"ablations {name}", *rest]
        with one_line_errors():
            sys.exit(import_module(f"ablations.{COMMANDS[name][0]}").main())
    else:
        given, accepted = (" ".join(sys.argv[1:3]), SCRIPTS) if name == "completion" else (name, COMMANDS)
        sys.exit(_refuse(given, accepted))


def _refuse(given: str, accepted: Sequence[str]) -> int:
    print(f"error: {given!r}: there is no such command; accepted: {', '.join(accepted)}", file=sys.stderr)
    return 2


def completions(line: str) -> list[str]:
    """What the last word of a command line may become; nothing where it may be the name of a file."""
    words = line.split()[1:] + ([""] if line[-1:].isspace() else [])
    if len(words) < 2:
        begun = words[0] if words else ""
        return [f"{name} " for name in (*COMMANDS, "completion") if name.startswith(begun)]
    name, begun = words[0], words[-1]
    if name == "completion":
        return [shell for shell in SCRIPTS if shell.startswith(begun)]
    if name in ("run", "describe") and not begun.startswith("-"):
        return _overrides(" ".join(words[1:]))
    if name not in COMMANDS or not begun.startswith("-"):
        return []
    if name == "run":
        return [
            flag
            for flag in ("--multirun", "--cfg", "--help", "--hydra-help", "--info")
            if flag.startswith(begun)
        ]
    parser = import_module(f"ablations.{COMMANDS[name][0]}").parser()
    return [f"{flag} " for flag in parser._option_string_actions if flag.startswith(begun) and flag != "-h"]


def _overrides(line: str) -> list[str]:
    """What Hydra makes of the overrides on a line, the last of which has only begun."""
    from hydra._internal.config_loader_impl import ConfigLoaderImpl
    from hydra._internal.core_plugins.bash_completion import BashCompletion
    from hydra._internal.utils import create_config_search_path

    from ablations.ground.paths import CONF
    from ablations.sweep.overrides import find_plugins

    os.environ.setdefault("HYDRA_FULL_ERROR", "1")
    find_plugins()
    loader = ConfigLoaderImpl(create_config_search_path(str(CONF)))
    return BashCompletion(loader)._query("config", line)


if __name__ == "__main__":
    main()
