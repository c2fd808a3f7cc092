"""The command `keras-dbq`: flags to calls of the package. Results go to standard output, everything else to standard
error, so that both can be piped.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import warnings
from collections.abc import Sequence

from keras_dbq.command import compare, files, quantize
from keras_dbq.command.outcome import Command

COMMANDS: list[Command] = [*quantize.COMMANDS, *files.COMMANDS, *compare.COMMANDS]
EXIT_CODES = "exit codes: 0 done; 1 an error, in one line, or a difference that verify found; 2 wrong flags"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one subcommand; the exit code (see `EXIT_CODES`)."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    flags = _parser().parse_args(_joined(sys.argv[1:] if arguments is None else list(arguments)))
    try:
        with contextlib.redirect_stdout(sys.stderr), warnings.catch_warnings():
            warnings.showwarning = lambda message, *_: print(f"warning: {message}", file=sys.stderr)  # type: ignore
            outcome = flags.run(flags)
    except KeyboardInterrupt:
        print("keras-dbq: interrupted; nothing was written in part", file=sys.stderr)
        return 130
    except (ValueError, TypeError, RuntimeError, OSError, ImportError, MemoryError) as error:
        print(f"keras-dbq {flags.command}: {' '.join(str(error).split()) or type(error).__name__}", file=sys.stderr)
        return 1
    _show(json.dumps(outcome.data, indent=1) if flags.json else outcome.text)
    return 0 if outcome.good else 1


def _show(text: str) -> None:
    """Prints it; a reader that has gone, as `head` does, is no error."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for the flush at the end of Python


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="keras-dbq", description="Low-bit quantization of Keras models, and their files.", epilog=EXIT_CODES
    )
    parser.add_argument("--version", action="version", version=_version())
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in COMMANDS:
        own = commands.add_parser(command.name, help=command.help, description=command.help, epilog=EXIT_CODES)
        command.add_flags(own)
        own.add_argument("--json", action="store_true", help="print the result as one JSON object")
        own.set_defaults(run=command.run)
    return parser


def _joined(arguments: list[str]) -> list[str]:
    """ "--range -1..1" as "--range=-1..1": argparse takes what begins with a minus for a flag."""
    joined: list[str] = []
    for argument in arguments:
        if joined and joined[-1] == "--range":
            joined[-1] += f"={argument}"
        else:
            joined.append(argument)
    return joined


def _version() -> str:
    import keras_dbq

    return f"keras-dbq {keras_dbq.__version__}"
