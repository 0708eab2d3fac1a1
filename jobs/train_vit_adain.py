"""Train a network for any style. See configs/train_vit_adain.yaml, --help for the keys.

The same as `nst-ops train-vit-adain`, as a file: what `ray job submit` runs.
"""

import sys

from nst_ops.cli import run

if __name__ == "__main__":
    raise SystemExit(run("train-vit-adain", sys.argv[1:]))
