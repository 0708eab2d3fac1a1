"""Names that others chose: every source has an output of its own, inside the output, or a row that says why not."""

import hashlib
import os
from pathlib import Path

import numpy as np
import pytest
from job_runner import read_manifest, write_image
from media_factory import moving_frames, write_video
from s3_server import S3Server, client, reached_by
from shard_factory import image_bytes, pixels, write_tar

from nst_ops.collection.integrity import verify
from nst_ops.config import StylizeConfig
from nst_ops.pipeline.console import Summary
from nst_ops.pipeline.run import stylize_collection
from nst_ops.storage import Folder

KEYS = [
    *("a/x.png", "a//x.png", "/lead.png", "../../escaped.png", "b/../up.png", "./dot.png", "//", "manifest/m.png"),
    *("a+b c.png", "a%2Bb.png", "q?v=1.png", "h#1.png", "trail .png", "é.png", "e\u0301.png", "CON.png", "C:\\x.png"),
    *("c\x01\x1b[31m.png", "x" * 240 + "/" + "y" * 250 + ".png", "a.png", "a.png/b.png", "A.png"),
]
REFUSED = {"manifest/m.png", "a.png"}
"""Where the run has its own files, and where other outputs need a folder."""


def run(source: str, output: str, **sections: object) -> Summary:
    sections = {"model": {"kind": "identity"}, "executor": "local", **sections}
    return stylize_collection(StylizeConfig(input=source, output=output, **sections))


@pytest.fixture
def bucket(s3: S3Server) -> str:
    """Objects below ``in`` of a new bucket, each another image, and some that are none."""
    bucket = s3.new_bucket()
    store = client(s3.endpoint)
    for seed, key in enumerate(KEYS):
        data = b"" if key == "//" else image_bytes(seed)
        store.call_s3("put_object", Bucket=bucket.removeprefix("s3://"), Key=f"in/{key}", Body=data)
    store.call_s3("put_object", Bucket=bucket.removeprefix("s3://"), Key="in/folder.png/", Body=b"")
    return bucket


def check_rows(rows: list[dict[str, object]], bucket: str) -> None:
    """Every key has its row, and every ok row an output of its own, with the pixels of its source."""
    assert {str(row["source_uri"]).removeprefix(f"{bucket}/in/") for row in rows} == set(KEYS) - {"//"}
    outputs = [row["output_uri"] for row in rows if row["status"] == "ok"]
    assert len(set(outputs)) == len(outputs) == len(rows) - len(REFUSED)
    for row in rows:
        key = str(row["source_uri"]).removeprefix(f"{bucket}/in/")
        assert (row["status"] == "failed") == (key in REFUSED), row
        if row["status"] == "ok":
            folder, name = str(row["output_uri"]).rsplit("/", 1)
            data = Folder(folder).read_bytes(name)
            assert hashlib.sha256(data).hexdigest() == row["output_sha256"]
            np.testing.assert_array_equal(pixels(data), pixels(image_bytes(KEYS.index(key))))
        else:
            assert "rename" in str(row["error_message"])


def test_keys_that_are_no_paths_stay_inside_the_output(s3: S3Server, bucket: str, tmp_path: Path) -> None:
    output = tmp_path / "below" / "the" / "out"
    with reached_by(s3.endpoint):
        assert run(f"{bucket}/in", str(output)).exit_code == 3
        check_rows(read_manifest(output), bucket)
        assert run(f"{bucket}/in", str(output)).num_already_done == len(KEYS) - 1
    outside = [path for path in tmp_path.rglob("*") if path.is_file() and output not in path.parents]
    assert outside == []
    assert not list(tmp_path.rglob("escaped.png"))
    assert verify(Folder(str(output))).is_whole
    for name in (
        "a/x.png",
        "a+b c.png",
        "a%2Bb.png",
        "q?v=1.png",
        "h#1.png",
        "trail .png",
        "é.png",
        "CON.png",
        "A.png",
    ):
        assert (output / name).is_file()


@pytest.mark.slow
def test_keys_that_are_no_paths_come_to_keys_that_are(s3: S3Server, bucket: str) -> None:
    with reached_by(s3.endpoint):
        assert run(f"{bucket}/in", f"{bucket}/some/out").exit_code == 3
        output = Folder(f"{bucket}/some/out")
        listed = [info.relpath for info in output.files()]
        assert not [path for path in listed if {"", ".", ".."} & set(path.split("/"))]
        table = output.list("manifest")
        assert table
        assert verify(output).is_whole
        assert {info.relpath.split("/")[0] for info in Folder(bucket).files()} == {"in", "some"}


def test_keys_that_are_no_paths_are_packed_into_shards(s3: S3Server, bucket: str, tmp_path: Path) -> None:
    with reached_by(s3.endpoint):
        summary = run(f"{bucket}/in", str(tmp_path / "out"), shards={"format": "webdataset"})
    assert summary.counts == {"ok": len(KEYS) - 1}
    assert verify(Folder(str(tmp_path / "out"))).is_whole


def test_names_as_long_as_the_disk_allows_come_out(tmp_path: Path) -> None:
    source, output = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    long = {"webm": "w" * 248 + ".webm", "gif": "é" * 124 + "g.gif", "jpg": "j" * 251 + ".jpg"}
    write_image(source / "a.jpg")
    (source / "a.jpg").rename(source / long["jpg"])
    write_video(source / "a.webm", moving_frames(4, 48, 32), codec="libvpx", options={})
    (source / "a.webm").rename(source / long["webm"])
    write_image(source / "a.gif")
    (source / "a.gif").rename(source / long["gif"])
    write_tar(source / ("t" * 251 + ".tar"), [("k" * 249 + ".png", image_bytes()), ("k" * 249 + ".json", b"{}")])
    assert {len(name.encode()) for name in os.listdir(source)} == {253, 255}
    assert run(str(source), str(output), shards={"format": "files"}).counts == {"ok": 4}
    assert verify(Folder(str(output))).is_whole
    assert (output / long["jpg"]).is_file()
    (folder,) = output.glob("t*.files")
    assert len({path.stem for path in folder.iterdir()}) == 1  # an image and its label share their key
    assert sorted(path.suffix for path in folder.iterdir()) == [".json", ".png"]
    assert {path.suffix for path in output.iterdir() if path.is_file()} == {".jpg", ".mkv", ".png", ".json"}


def test_frames_of_a_long_name_lie_in_one_folder(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", moving_frames(3, 48, 32))
    (tmp_path / "in").mkdir()
    (tmp_path / "a.mp4").rename(tmp_path / "in" / ("f" * 251 + ".mp4"))
    assert run(str(tmp_path / "in"), str(tmp_path / "out"), video={"container": "frames"}).exit_code == 0
    assert verify(Folder(str(tmp_path / "out"))).is_whole
    (row,) = read_manifest(tmp_path / "out")
    assert str(row["output_uri"]).endswith(".frames/frames.csv")
