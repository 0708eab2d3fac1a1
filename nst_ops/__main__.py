"""``python -m nst_ops``: the command ``nst-ops``."""

from nst_ops.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
