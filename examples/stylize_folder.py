"""Stylize a folder from Python, and list the files that could not be stylized with their reasons.

    python examples/stylize_folder.py INPUT OUTPUT

Run it again and it goes on where it stopped: files that have a row in the manifest are not done twice.
"""

import sys

import pyarrow.dataset

from nst_ops import StylizeConfig, stylize_collection
from nst_ops.config import ModelConfig


def main(arguments: list[str]) -> int:
    """Stylize with one of the networks that come with the package."""
    source, output = arguments
    config = StylizeConfig(input=source, output=output, model=ModelConfig(checkpoint="the_scream"), executor="local")
    summary = stylize_collection(config)
    print(summary.table())

    manifest = pyarrow.dataset.dataset(f"{output}/manifest")
    failed = manifest.to_table(filter=pyarrow.dataset.field("status") != "ok")
    for row in failed.to_pylist():
        print(f"{row['source_uri']}: {row['status']}, {row['error_message']}")
    return summary.exit_code


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
