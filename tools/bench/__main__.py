"""Speed and memory compared with the neighbouring projects, side by side in one run.

    python -m tools.bench encode --shapes small --count 512
    python -m tools.bench train --batches 32
    python -m tools.bench mine --rows 5000 --threads 1
    python -m tools.bench trim --peer-python PYTHON

`--help` lists the commands, `COMMAND --help` the options; docs/benchmarks.md has what they printed.
Read the ratios: seconds depend on the machine and on who shares it.

A peer is measured where it can be imported: run this with the Python of an environment that holds
`tests/parity/requirements.txt` next to this project's requirements.
"""

import argparse
import importlib

from files import ShowDefaults, cli, whole_number
from tools.bench import measure

COMMANDS = "encode train mine search trim synthesize evaluate earlier".split()


def main(argv=None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.bench", description="Speed and memory.")
    commands = parser.add_subparsers(required=True)
    for name in COMMANDS:
        module = importlib.import_module(f"tools.bench.{name}")
        summary = module.__doc__.split("\n\n")[0]
        command = commands.add_parser(
            name,
            help=summary,
            description=summary,
            formatter_class=ShowDefaults,
        )
        module.add_options(command.add_argument)
        command.add_argument("--threads", type=whole_number(1), default=2, help="of torch")
        command.add_argument("--rounds", type=whole_number(1), default=1, help="each variant's")
        command.add_argument(
            "--busy", type=whole_number(0), default=0, help="other processes that each use a core"
        )
        command.set_defaults(run=module.run)
    args = parser.parse_args(argv)
    with measure.busy(args.busy):
        args.run(args)


# Each figure comes from a new process, which imports this file again under another name.
if __name__ == "__main__":
    cli(main)
