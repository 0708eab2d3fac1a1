"""Stylize every input in every style of a folder, in one run that reads each input once.

    python examples/several_styles.py INPUT STYLE_IMAGES OUTPUT

Each style gets a folder of its own, ``OUTPUT/<style>/``, and each input a row in the manifest for every style.
"""

import sys
from collections import Counter

import pyarrow.dataset

from nst_ops import StylizeConfig, stylize_collection
from nst_ops.config import ModelConfig
from nst_ops.config.stylize import StyleConfig


def main(arguments: list[str]) -> int:
    """Stylize, and count the rows of each style."""
    source, styles, output = arguments
    config = StylizeConfig(
        input=source,
        output=output,
        model=ModelConfig(kind="any_style", checkpoint="any_style"),
        style=StyleConfig(images=styles, mode="each", strength=0.8),
        executor="local",
    )
    summary = stylize_collection(config)
    print(summary.table())
    rows = pyarrow.dataset.dataset(f"{output}/manifest").to_table(["style", "status"]).to_pylist()
    for (style, status), count in sorted(Counter((row["style"], row["status"]) for row in rows).items()):
        print(f"{style}: {count} {status}")
    return summary.exit_code


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
