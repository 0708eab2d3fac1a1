"""Stylize the images of a Hugging Face data set; labels and all other columns pass through.

    python examples/hugging_face_parquet.py FOLDER_OF_PARQUET_FILES OUTPUT [IMAGE_COLUMN]

Each Parquet file becomes one of the same name, ready for ``datasets.load_dataset("parquet", ...)``.
"""

import sys
from pathlib import Path

import pyarrow.parquet as pq

from nst_ops import StylizeConfig, stylize_collection
from nst_ops.config import ModelConfig
from nst_ops.config.stylize import ShardsConfig


def main(arguments: list[str]) -> int:
    """Stylize, and show what the written files hold."""
    source, output, *column = arguments
    config = StylizeConfig(
        input=source,
        output=output,
        model=ModelConfig(checkpoint="starry_night"),
        shards=ShardsConfig(image_column=column[0] if column else "image"),
        executor="local",
    )
    summary = stylize_collection(config)
    print(summary.table())
    for path in sorted(Path(output).glob("*.parquet")):
        written = pq.ParquetFile(path)
        print(f"{path}: {written.metadata.num_rows} rows of {', '.join(written.schema_arrow.names)}")
    return summary.exit_code


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
