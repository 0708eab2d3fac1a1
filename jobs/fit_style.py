"""Fit styles of paintings as rows of a network of many styles. See --help for the keys.

The same as `nst-ops fit-style`, as a file: what `ray job submit` runs.
"""

import sys

from nst_ops.cli import run

if __name__ == "__main__":
    raise SystemExit(run("fit-style", sys.argv[1:]))
