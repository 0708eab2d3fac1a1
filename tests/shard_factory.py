"""Shards for tests, made and read with the libraries that others use: tarfile, webdataset, pyarrow."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

HF_IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def image_bytes(seed: int = 0, extension: str = "png", size: tuple[int, int] = (24, 16)) -> bytes:
    """A file of noise."""
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, {"jpg": "JPEG"}.get(extension, extension.upper()))
    return buffer.getvalue()


def pixels(data: bytes) -> np.ndarray:
    """(H, W, 3) of a file's bytes."""
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def write_tar(path: Path, members: Sequence[tuple[str, bytes]], mode: str = "w") -> Path:
    """A tar of these files, in their order."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size, info.mtime, info.uname = len(data), 1_700_000_000, "somebody"
            tar.addfile(info, io.BytesIO(data))
    return path


def read_tar(path: Path) -> dict[str, bytes]:
    """The files of a tar, in their order."""
    with tarfile.open(path) as tar:
        return {info.name: tar.extractfile(info).read() for info in tar}


def read_webdataset(path: Path) -> list[dict[str, Any]]:
    """The samples of a tar, as training reads them."""
    import webdataset  # brings torch along

    dataset = webdataset.WebDataset(f"file:{path}", shardshuffle=False)
    return [{key: value for key, value in sample.items() if key != "__url__"} for sample in dataset]


def write_hf_parquet(path: Path, images: Sequence[bytes | None], **columns: Any) -> Path:
    """A shard as Hugging Face's datasets write it, two rows in a row group."""
    path.parent.mkdir(parents=True, exist_ok=True)
    paths = columns.pop("paths", [f"{index}.png" for index in range(len(images))])
    rows = [{"bytes": data, "path": name} for data, name in zip(images, paths, strict=True)]
    table = pa.table({"image": pa.array(rows, HF_IMAGE), **columns})
    features = {"info": {"features": {"image": {"_type": "Image"}}}}
    pq.write_table(table.replace_schema_metadata({"huggingface": json.dumps(features)}), path, row_group_size=2)
    return path
