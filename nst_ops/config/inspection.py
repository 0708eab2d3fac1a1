"""Options of ``nst-ops status`` and ``nst-ops verify``."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field, NonNegativeInt, PositiveInt
from pydantic_settings import CliPositionalArg

from nst_ops.config.base import JobConfig
from nst_ops.config.storage import StorageConfig


class StatusConfig(JobConfig):
    """Show rows, rates, time left, whether the driver is alive, and errors of a stylize run, from its output alone.

    On remote storage this command watches for the driver's next heartbeat, as clocks of several machines may differ.
    """

    epilog: ClassVar[str] = "exit codes: 0 shown, 2 no run there, or it cannot be read."
    output: CliPositionalArg[str]
    """Folder or URI that a run writes to."""
    watch: bool = False
    """Draw the status anew every few seconds until the run ends."""
    as_json: bool = Field(default=False, alias="json")
    """Print the status as JSON, for a program."""
    storage: StorageConfig = StorageConfig()


class VerifyConfig(JobConfig):
    """Check an output of a stylize run against its manifest.

      - every row that says ok has its output with its size and SHA-256, so have frames in folders, images in shards
      - no other file lies in the output (manifest/, report/, run.json and hidden files are the run's own)
      - no source has two rows in one style, and no two sources have one output
      - every row that is not ok says why

    Reads only, unless --repair is given.
    """

    epilog: ClassVar[str] = """\
    examples:
      nst-ops verify out                          everything, contents too
      nst-ops verify s3://bucket/out --quick      names and sizes, from the listing alone
      nst-ops verify out --json | jq .problems    for a program
      nst-ops verify out --repair                 then the job's command again: it does again what was missing
                                                  or damaged

    While a run is going on, outputs are there before their rows: 'extra' is expected then.

    exit codes: 0 whole; 3 problems found, repaired ones included; 2 no run there, or bad arguments."""
    output: CliPositionalArg[str]
    """Folder or URI that a run wrote to."""
    quick: bool = False
    """Compare names and sizes only: a changed byte is not seen."""
    repair: bool = False
    """Drop missing or damaged outputs and their rows, so that the next run does them again; extra files stay."""
    as_json: bool = Field(default=False, alias="json")
    """Print the report as JSON, for a program."""
    show: NonNegativeInt = 20
    """Problems shown of each kind."""
    threads: PositiveInt = 16
    """Threads that read files: more help on remote storage."""
    memory: str = "2GB"
    """Memory for the comparison; the rest goes to the folder that TMPDIR names."""
    storage: StorageConfig = StorageConfig()
