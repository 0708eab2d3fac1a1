"""Stylize a collection of images and videos. See configs/ for ready-made runs, --help for the keys.

The same as `nst-ops stylize`, as a file: what `ray job submit` runs.
"""

import sys

from nst_ops.cli import run

if __name__ == "__main__":
    raise SystemExit(run("stylize", sys.argv[1:]))
