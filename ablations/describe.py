"""The network as a table: `python -m ablations.describe [overrides]`."""

import argparse
import sys
from collections.abc import Sequence

from ablations.commands import command_parser, one_line_errors
from ablations.errors import printable
from ablations.nn.network import Network
from ablations.sweep.overrides import compose

EXAMPLES = """\
examples:
  python -m ablations.describe
  python -m ablations.describe c3=sparse pool=avg head=mse
"""


def compose_network(overrides: Sequence[str]) -> Network:
    """The network of run.py's configuration with these overrides, built with the weights of its seed."""
    from ablations.training.recipe import build_network
    from ablations.training.streams import Streams

    config = compose(*overrides)
    return build_network(config, Streams(config.seed))


def table(network: Network) -> str:
    """Layer, kind, output shape, parameters, connections and multiply-accumulates (MACs), with totals."""
    rows = [("layer", "kind", "output", "parameters", "connections", "MACs")]
    totals = [0, 0, 0]
    for name, layer in network.named.items():
        summary = layer.summary()
        maps, *size = summary.shape
        shape = f"{maps}@{'×'.join(map(str, size))}" if size else str(maps)
        counts = [layer.size, summary.connections, summary.macs]
        totals = [total + count for total, count in zip(totals, counts, strict=True)]
        rows.append((printable(name), summary.kind, shape, *(f"{count:,}" for count in counts)))
    rows.append(("total", "", "", *(f"{total:,}" for total in totals)))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(
            cell.ljust(width) if at < 3 else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    rule = "─" * max(map(len, lines))
    weights = sum(a.value.size for layer in network.named.values() for a in _weights(layer.parameters))
    note = f"of the {totals[0]:,} parameters {weights:,} are weights and {totals[0] - weights:,} biases"
    return "\n".join([lines[0], rule, *lines[1:-1], rule, lines[-1], note])


def _weights(parameters: dict) -> list:
    return [parameter for name, parameter in parameters.items() if name != "bias"]


def parser() -> argparse.ArgumentParser:
    """What the command takes."""
    found = command_parser(
        "describe",
        "Print the network as a table. Counts are for one image; overrides are those of run.py.",
        EXAMPLES,
    )
    found.add_argument("overrides", nargs="*", help="as for run.py: activation=tanh c3=sparse …")
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    options = parser().parse_args(arguments)
    print(table(compose_network(options.overrides)))


if __name__ == "__main__":
    with one_line_errors():
        sys.exit(main())
