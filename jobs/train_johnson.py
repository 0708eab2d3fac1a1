"""Train a fast network for one style. See configs/train_johnson.yaml, --help for the keys.

The same as `nst-ops train-johnson`, as a file: what `ray job submit` runs.
"""

import sys

from nst_ops.cli import run

if __name__ == "__main__":
    raise SystemExit(run("train-johnson", sys.argv[1:]))
