"""Measure what a run made, and write a page about it. --help lists the keys.

The same as `nst-ops evaluate`, as a file: what `ray job submit` runs.
"""

import sys

from nst_ops.cli import run

if __name__ == "__main__":
    raise SystemExit(run("evaluate", sys.argv[1:]))
