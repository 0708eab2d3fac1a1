"""The command ``nst-ops``: its subcommands, their exit codes, and the printing of errors."""

from __future__ import annotations

import contextlib
import difflib
import importlib.metadata
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from typing import NamedTuple

OK, FATAL, BAD_CONFIGURATION = 0, 1, 2
"""Exit codes; 3, finished with failures, comes from the subcommands themselves."""


class Command(NamedTuple):
    """A subcommand of ``nst-ops``."""

    summary: str
    config: str
    """Class in ``nst_ops.config`` that its options are parsed into."""
    function: str
    """Module here and its function, which takes that configuration and returns the exit code. It is imported only
    when the options are right, and imports torch and Ray, which take seconds, only when it is called."""
    if_stopped: str = "run the same command again to go on"
    """Message for who stops it."""


COMMANDS = {
    "stylize": Command("stylize every image and video of a collection", "StylizeConfig", "jobs.stylize"),
    "train-johnson": Command(
        "train a fast network for one style or for faces to anime", "TrainJohnsonConfig", "jobs.train"
    ),
    "train-vit-adain": Command("train a network for any style", "TrainVitAdainConfig", "jobs.train"),
    "train-multi-style": Command("train one network for many paintings", "TrainMultiStyleConfig", "jobs.train"),
    "fit-style": Command("fit styles of paintings in some minutes each", "FitStyleConfig", "jobs.fit"),
    "evaluate": Command(
        "measure what a run made, and write a page about it", "EvaluateConfig", "jobs.evaluate", "nothing was written"
    ),
    "status": Command("show how far a run is, from its output alone", "StatusConfig", "status.main"),
    "verify": Command("check every output of a run against its manifest", "VerifyConfig", "verify.main"),
}

_HELP = """\
usage: nst-ops COMMAND [OPTIONS]

Neural style transfer of whole image and video collections, accounted for file by file.

commands:
{commands}

examples:
  nst-ops stylize --input photos --output out/photos
  nst-ops stylize --input clips --output out/clips --model.checkpoint mondrian --dry-run
  nst-ops status out/clips --watch
  nst-ops verify out/clips

nst-ops COMMAND --help explains a command and all its options; nst-ops --version shows the version.
exit codes: 0 all done, 3 finished with some failures, 2 bad configuration, 1 fatal or stopped.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the subcommand that ``arguments`` (default: those of the process) begin with; return the exit code."""
    name, *rest = (sys.argv[1:] if arguments is None else arguments) or ["--help"]
    if name in ("-h", "--help", "help"):
        width = max(map(len, COMMANDS))
        lines = (f"  {name:{width}}  {command.summary}" for name, command in COMMANDS.items())
        print(_HELP.format(commands="\n".join(lines)), end="")
        return OK
    if name in ("-V", "--version"):
        print(f"nst-ops {importlib.metadata.version('nst-ops')}")
        return OK
    if name not in COMMANDS:
        near = [known for known in COMMANDS if known.startswith(name)] or difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(COMMANDS)}"
        return _fail("error", f"unknown command '{name}', {hint}", BAD_CONFIGURATION)
    return run(name, rest)


def run(name: str, arguments: Sequence[str]) -> int:
    """Run the subcommand ``name``; an error that is meant for a person becomes one line and an exit code."""
    from nst_ops import config

    command = COMMANDS[name]
    options = config.parse_config(getattr(config, command.config), arguments, prog=f"nst-ops {name}")
    from nst_ops.storage import StorageError  # only now: wrong options fail at once

    logging.basicConfig(format="%(message)s")
    logging.getLogger("nst_ops").setLevel(logging.INFO)  # of others, such as S3 clients, only warnings
    if threading.current_thread() is threading.main_thread():
        # SIGTERM, of `ray job stop` or SLURM, stops a run as Ctrl-C does.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        module, _, function = command.function.partition(".")
        return int(getattr(importlib.import_module(f"nst_ops.cli.{module}"), function)(options))
    except config.ConfigError as error:
        return _fail("error", str(error), BAD_CONFIGURATION)
    except (config.FatalError, StorageError) as error:
        return _fail("fatal", str(error), FATAL)
    except BrokenPipeError:  # whoever reads the output, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FATAL
    except KeyboardInterrupt:
        return _fail("stopped", command.if_stopped, FATAL)


@contextlib.contextmanager
def reading(output: str) -> Iterator[None]:
    """Turn whatever a storage raises while an output is read into an error that names it, exit code 2."""
    from nst_ops.config.errors import ConfigError

    try:
        yield
    except ConfigError:
        raise
    except (ValueError, OSError) as error:  # such as no such file system, no access, no connection
        raise ConfigError(f"cannot read '{output}': {error}") from error


def _fail(what: str, message: str, exit_code: int) -> int:
    from nst_ops.config.errors import for_terminal

    print(f"{what}: {for_terminal(message)}", file=sys.stderr)
    return exit_code
