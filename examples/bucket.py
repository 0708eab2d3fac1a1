"""Stylize from one bucket into another, on Amazon S3 or any server that speaks its protocol.

    export AWS_ACCESS_KEY_ID=... AWS_SECRET_ACCESS_KEY=...
    python examples/bucket.py s3://photos/2024 s3://stylized/2024 --endpoint http://localhost:9000

Input, output, manifest and report all lie in the bucket; nothing is kept on this machine.
"""

import argparse
import sys

from nst_ops import StylizeConfig, stylize_collection
from nst_ops.config import ModelConfig
from nst_ops.config.storage import StorageConfig


def main(arguments: list[str]) -> int:
    """Stylize; credentials come from the environment or a profile, never from the configuration."""
    parser = argparse.ArgumentParser(description="Stylize from one bucket into another.")
    parser.add_argument("input", help="URI of a folder, a file or a list of files")
    parser.add_argument("output", help="URI of a folder")
    parser.add_argument("--endpoint", help="address of the server; default: Amazon's")
    parser.add_argument("--kind", default="johnson", help="kind of model")
    options = parser.parse_args(arguments)
    config = StylizeConfig(
        input=options.input,
        output=options.output,
        model=ModelConfig(kind=options.kind),
        storage=StorageConfig(endpoint_url=options.endpoint),
        executor="local",
    )
    summary = stylize_collection(config)
    print(summary.table())
    return summary.exit_code


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
