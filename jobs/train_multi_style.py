"""Train one network for many styles. See configs/train_multi_style.yaml, --help for the keys.

The same as `nst-ops train-multi-style`, as a file: what `ray job submit` runs.
"""

import sys

from nst_ops.cli import run

if __name__ == "__main__":
    raise SystemExit(run("train-multi-style", sys.argv[1:]))
