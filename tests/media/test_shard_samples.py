"""Shards: what is read, by what names, and what comes out of broken and hostile ones."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from shard_factory import HF_IMAGE, image_bytes, read_tar, write_hf_parquet, write_tar

from nst_ops.media.errors import OutputCollisionError, UnreadableShardError
from nst_ops.media.formats import likely_output, media_kind, shard_output
from nst_ops.media.shards import Sample, ShardReader, StylizedImage, file_samples, open_shard, open_writer
from nst_ops.media.shards.sample import split_name
from nst_ops.storage.names import safe_name

RED, BLUE = image_bytes(1), image_bytes(2)
TAR_BYTES = 512 + -(-len(RED) // 512) * 512
"""Size of an image in a tar, with its header."""


def unchanged(sample: Sample) -> dict[str, StylizedImage]:
    return {image.member: StylizedImage(image.name, image.data) for image in sample.images}


def copy(shard: ShardReader, path: Path, layout: object = None) -> Path:
    with open_writer(str(path), layout) as writer:
        for sample in shard.samples():
            writer.write(sample, unchanged(sample))
    return path


# Names.


@pytest.mark.parametrize(
    ("name", "kind"),
    [("a.tar", "shard"), ("a.TGZ", "shard"), ("a.tar.gz", "shard"), ("b.parquet", "shard"), ("b.gz", "other")],
)
def test_shards_are_known_by_their_extension(name, kind):
    assert media_kind(name) == kind


@pytest.mark.parametrize(
    ("relpath", "wanted", "expected"),
    [
        ("train/0.tar", "auto", ("train/0.tar", "webdataset")),
        ("train/0.tar", "webdataset", ("train/0.tar", "webdataset")),
        ("train/0.tar", "parquet", ("train/0.tar.parquet", "parquet")),
        ("train/0.tgz", "auto", ("train/0.tgz.tar", "webdataset")),
        ("x.parquet", "auto", ("x.parquet", "parquet")),
        ("x.parquet", "webdataset", ("x.parquet.tar", "webdataset")),
        ("x.parquet", "files", ("x.parquet.files", "files")),
        ("images-000012-ab12cd34", "parquet", ("images-000012-ab12cd34.parquet", "parquet")),
    ],
)
def test_a_shard_keeps_its_name_unless_its_format_changes(relpath, wanted, expected):
    assert shard_output(relpath, wanted) == expected
    if media_kind(relpath) == "shard":
        assert likely_output(relpath, shards=wanted) == expected[0]


@given(st.text())
def test_no_name_leads_out_of_a_folder_and_good_ones_stay(name):
    safe = safe_name(name)
    assert ".." not in safe.split("/")
    assert not safe.startswith("/")
    assert safe.isprintable() or not any(ord(c) < 32 or 0x7F <= ord(c) < 0xA0 for c in safe)
    safe.encode()
    assert safe_name(safe) == safe


@pytest.mark.parametrize("name", ["train/000.jpg", "./a b/ü漢字.left.png", "a..b/c...jpg"])
def test_safe_names_stay_as_they_are(name):
    assert safe_name(name) == name


def test_the_first_dot_of_the_base_name_ends_the_key():
    assert split_name("a.b/c.left.jpg") == ("a.b/c", "left.jpg")
    assert split_name("README") == ("README", "")


# Tars.


def test_neighbors_with_one_key_are_a_sample(tmp_path: Path) -> None:
    members = [("a.cls", b"1"), ("a.left.png", RED), ("a.right.png", BLUE), ("b.png", RED), ("notes", b"text")]
    samples = list(open_shard(str(write_tar(tmp_path / "s.tar", members))).samples())
    assert [[image.member for image in sample.images] for sample in samples] == [
        ["a.left.png", "a.right.png"],
        ["b.png"],
        [],
    ]
    assert samples[0].images[1].data == BLUE


def test_a_tar_is_written_as_it_came_but_for_owner_and_time(tmp_path: Path) -> None:
    members = [("./x/a.json", b"{}"), ("./x/a.png", RED), ("x/" + "long" * 60 + ".png", BLUE), ("._junk.png", b"\0")]
    source = write_tar(tmp_path / "s.tgz", members, "w:gz")
    copied = copy(open_shard(str(source)), tmp_path / "copy.tar")
    assert list(read_tar(copied).items()) == members
    with tarfile.open(copied) as tar:
        assert {(info.mtime, info.uid, info.uname) for info in tar} == {(0, 0, "")}
    assert copy(open_shard(str(source)), tmp_path / "again.tar").read_bytes() == copied.read_bytes()


@pytest.mark.parametrize("share", [0.0, 0.3, 0.6, 0.9])
def test_a_tar_that_is_cut_off_gives_whole_samples_and_says_so(tmp_path: Path, share: float) -> None:
    members = [(f"{index}.{kind}", data) for index in range(8) for kind, data in (("png", RED), ("cls", b"7"))]
    path = write_tar(tmp_path / "s.tar", members)
    end = 8 * (TAR_BYTES + 1024)  # images and labels with their headers; after it nothing but padding
    path.write_bytes(path.read_bytes()[: int(end * share)])
    samples: list[Sample] = []
    with pytest.raises(UnreadableShardError, match="copy or make it again"):
        collect(open_shard(str(path)), samples)
    assert int(8 * share) - len(samples) in (0, 1)  # one is whole when the next has begun
    assert all(len(sample.parts) == 2 for sample in samples)


def collect(shard: ShardReader, samples: list[Sample]) -> None:
    """Collect the samples, which ``list`` would lose when the shard breaks off."""
    for sample in shard.samples():
        samples.append(sample)


def test_a_tar_that_ends_between_two_files_is_cut_off_as_well(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "s.tar", [("a.png", RED), ("a.cls", b"1")])
    whole = path.read_bytes()
    path.write_bytes(whole[:TAR_BYTES])
    with pytest.raises(UnreadableShardError):
        list(open_shard(str(path)).samples())


def test_a_broken_header_in_the_middle_is_no_end(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "s.tar", [("a.png", RED), ("b.png", RED), ("c.png", RED)])
    data = bytearray(path.read_bytes())
    data[2 * TAR_BYTES : 2 * TAR_BYTES + 512] = b"x" * 512
    path.write_bytes(data)
    samples: list[Sample] = []
    with pytest.raises(UnreadableShardError, match="after 2 of its files"):
        collect(open_shard(str(path)), samples)
    assert [sample.key for sample in samples] == ["a"]


def test_members_that_are_no_image_files_say_why(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "s.tar", [("a.png", RED), ("video.mp4", b"x"), ("a.png", BLUE)])
    with tarfile.open(path, "a") as tar:
        link = tarfile.TarInfo("link.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    images = [image for sample in open_shard(str(path)).samples() for image in sample.images]
    assert len({image.member for image in images}) == 4
    reasons = [str(image.error or "") for image in images]
    assert reasons[0] == ""
    assert "video inside a shard" in reasons[1]
    assert "second image of this name" in reasons[2]
    assert "a link" in reasons[3]


def test_names_from_foreign_archives_lead_nowhere(tmp_path: Path) -> None:
    evil = ["../../a.png", "/etc/b.png", "c\x1b[31m\n.png", "..\\d.png", "e/../../f.png"]
    path = write_tar(tmp_path / "s.tar", [(name, RED) for name in evil])
    with tarfile.open(path, "a", encoding="utf-8") as tar:
        info = tarfile.TarInfo("bad\udcff.png")
        info.size = len(RED)
        tar.addfile(info, io.BytesIO(RED))
    names = list(read_tar(copy(open_shard(str(path)), tmp_path / "copy.tar")))
    assert names == ["a.png", "etc/b.png", "c_[31m_.png", ".._d.png", "e/f.png", "bad_.png"]
    members = [p.member for sample in open_shard(str(path)).samples() for p in sample.images]
    assert "".join(members).encode()


def test_two_files_of_one_name_are_never_written(tmp_path: Path) -> None:
    source = write_tar(tmp_path / "s.tar", [("a.png", RED), ("b.png", RED), ("../a.png", BLUE)])
    first, _, second = open_shard(str(source)).samples()
    with open_writer(str(tmp_path / "copy.tar"), None) as writer:
        writer.write(first, unchanged(first))
        with pytest.raises(OutputCollisionError, match="rename"):
            writer.write(second, unchanged(second))
    assert read_tar(tmp_path / "copy.tar") == {"a.png": RED}


# Parquet.


def test_rows_are_named_by_their_paths_or_their_numbers(tmp_path: Path) -> None:
    paths = ["a.png", None, "a.png", "row-0000004", "b"]
    shard = open_shard(str(write_hf_parquet(tmp_path / "s.parquet", [RED] * 5, paths=paths)))
    images = [sample.image for sample in shard.samples()]
    members = [image.member for image in images]
    assert members == ["a.png", "row-0000001", "row-0000002", "row-0000004", "b"]
    assert [image.name for image in images[1:]] == [f"{member}.png" for member in members[1:]]
    copied = open_shard(str(copy(shard, tmp_path / "copy.parquet", shard.layout())))
    assert [sample.image.member for sample in copied.samples()] == members


def test_a_parquet_is_written_with_all_its_columns(tmp_path: Path) -> None:
    columns = {
        "label": pa.array([3, None, 5], pa.int16()),
        "when": pa.array([0, 1, 2], pa.timestamp("us", tz="UTC")),
        "boxes": pa.array([[[1.0, 2.0]], [], None]),
        "split": pa.array(["train", "test", "train"]).dictionary_encode(),
        "mask": pa.array([b"\0\xff", None, b""]),
    }
    source = write_hf_parquet(tmp_path / "s.parquet", [RED, BLUE, RED], **columns)
    shard = open_shard(str(source))
    copied = copy(shard, tmp_path / "copy.parquet", shard.layout())
    before, after = pq.ParquetFile(source), pq.ParquetFile(copied)
    assert after.schema_arrow.equals(before.schema_arrow, check_metadata=True)
    assert after.read().equals(before.read())
    assert [after.metadata.row_group(group).num_rows for group in range(2)] == [2, 1]
    assert copy(open_shard(str(source)), tmp_path / "again.parquet", shard.layout()).read_bytes() == copied.read_bytes()


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary(), pa.binary_view()])
def test_the_only_column_of_plain_bytes_holds_the_images(tmp_path: Path, kind: pa.DataType) -> None:
    pq.write_table(pa.table({"n": [1, 2], "jpg": pa.array([RED, BLUE], kind)}), tmp_path / "s.parquet")
    shard = open_shard(str(tmp_path / "s.parquet"))
    assert [sample.image.data for sample in shard.samples()] == [RED, BLUE]
    copied = pq.read_table(copy(shard, tmp_path / "copy.parquet", shard.layout()))
    assert copied.equals(pq.read_table(tmp_path / "s.parquet"))


def test_images_alone_have_no_labels(tmp_path: Path) -> None:
    source = write_hf_parquet(tmp_path / "s.parquet", [RED, BLUE])
    shard = open_shard(str(source))
    copied = copy(shard, tmp_path / "copy.parquet", shard.layout())
    assert pq.read_table(copied).equals(pq.read_table(source))
    assert read_tar(copy(shard, tmp_path / "s.tar")) == {"0.png": RED, "1.png": BLUE}


def test_a_table_without_one_place_for_images_is_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"n": [1], "text": ["a"]}), tmp_path / "none.parquet")
    with pytest.raises(UnreadableShardError, match="its columns are n, text"):
        open_shard(str(tmp_path / "none.parquet"))
    pq.write_table(pa.table({"left": [RED], "right": [RED]}), tmp_path / "two.parquet")
    with pytest.raises(UnreadableShardError, match="give --shards"):
        open_shard(str(tmp_path / "two.parquet"))
    assert next(open_shard(str(tmp_path / "two.parquet"), "right").samples()).image.data == RED
    (tmp_path / "text.parquet").write_text("no table")
    with pytest.raises(UnreadableShardError, match="no whole Parquet"):
        open_shard(str(tmp_path / "text.parquet"))


def test_a_row_without_bytes_is_an_image_with_an_error(tmp_path: Path) -> None:
    shard = open_shard(str(write_hf_parquet(tmp_path / "s.parquet", [None, RED])))
    errors = [str(sample.image.error or "") for sample in shard.samples()]
    assert "without the bytes" in errors[0]
    assert errors[1] == ""


def test_a_damaged_parquet_gives_the_rows_before_the_damage(tmp_path: Path) -> None:
    images = [image_bytes(n) for n in range(60)]
    table = pa.table({"image": pa.array([{"bytes": data, "path": None} for data in images], HF_IMAGE)})
    path = tmp_path / "s.parquet"
    pq.write_table(table, path, row_group_size=20, compression="gzip", use_dictionary=False)
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 2000] = bytes(2000)
    path.write_bytes(data)
    samples: list[Sample] = []
    with pytest.raises(UnreadableShardError, match="after 16 of its rows"):
        collect(open_shard(str(path)), samples)
    assert [sample.image.data for sample in samples] == images[:16]


# From one to the other.


def test_labels_of_a_tar_become_columns(tmp_path: Path) -> None:
    members = [
        *[("a.png", RED), ("a.cls", b"3"), ("a.txt", "ü".encode()), ("a.npy", b"\x93NUMPY"), ("a.json", b'{"n": 1}')],
        *[("b.left.png", RED), ("b.right.png", BLUE), ("b.cls", b" 4\n"), ("b.txt", b"two"), ("b.image", b"no")],
        ("README", b"text"),
    ]
    shard = open_shard(str(write_tar(tmp_path / "s.tar", members)))
    table = pq.read_table(copy(shard, tmp_path / "s.parquet", shard.layout()))
    assert table["__key__"].to_pylist() == ["a", "b", "b"]
    assert table["image"].to_pylist()[2] == {"bytes": BLUE, "path": "b.right.png"}
    assert table["cls"].to_pylist() == [3, 4, 4]
    assert table["txt"].to_pylist() == ["ü", "two", "two"]
    assert table["npy"].to_pylist() == [b"\x93NUMPY", None, None]
    assert table["json"].to_pylist() == ['{"n": 1}', None, None]
    assert table["image_"].to_pylist() == [None, b"no", b"no"]
    assert b"Image" in table.schema.metadata[b"huggingface"]


def test_labels_that_are_not_what_their_names_say_stay_whole(tmp_path: Path) -> None:
    members = [
        *[("a.png", RED), ("a.cls", b"3"), ("a.txt", b"plain"), ("a.big.cls", str(2**70).encode())],
        *[("b.png", RED), ("b.cls", b"cat"), ("b.txt", b"\xff\xfe")],
    ]
    shard = open_shard(str(write_tar(tmp_path / "s.tar", members)))
    table = pq.read_table(copy(shard, tmp_path / "s.parquet", shard.layout()))
    assert table["cls"].to_pylist() == ["3", "cat"]
    assert table["txt"].to_pylist() == [b"plain", b"\xff\xfe"]
    assert table["big.cls"].to_pylist() == [str(2**70), None]


def test_columns_become_labels_of_a_tar(tmp_path: Path) -> None:
    source = write_hf_parquet(
        tmp_path / "s.parquet",
        [RED, BLUE],
        paths=["x/a.b.png", "x/a.b.jpg"],
        label=pa.array([3, None]),
        mask=pa.array([b"\0", None]),
        png=pa.array([b"other", b"other"]),
        when=pa.array([0, 1], pa.timestamp("s")),
        text=["eins", "zwei"],
    )
    shard = open_shard(str(source))
    files = read_tar(copy(shard, tmp_path / "s.tar"))
    keys = list(dict.fromkeys(split_name(name)[0] for name in files))
    assert keys[0] == "x/a_b"
    assert keys[1].startswith("x/a_b-")
    assert {split_name(name)[1] for name in files if split_name(name)[0] == keys[0]} == {
        *("png", "cls", "mask", "png_", "json")
    }
    assert files["x/a_b.cls"] == b"3"
    assert files["x/a_b.mask"] == b"\0"
    assert json.loads(files["x/a_b.json"]) == {"when": "1970-01-01 00:00:00", "text": "eins"}
    assert files[f"{keys[1]}.jpg"] == BLUE
    assert f"{keys[1]}.cls" not in files


def test_image_files_bring_their_labels(tmp_path: Path) -> None:
    labels = [{"label": 1, "tags": ["a"], "odd": 1}, {"label": 2, "odd": "two", "image": "taken"}, {}]
    samples, layout = file_samples(["a/x.v1.png", "a/x.v1.jpg", "../y.png"], labels, "image")
    with open_writer(str(tmp_path / "s.parquet"), layout) as writer:
        for sample in samples:
            writer.write(sample, {sample.image.member: StylizedImage(sample.image.name, RED)})
    table = pq.read_table(tmp_path / "s.parquet")
    assert table.column_names == ["image", "label", "tags", "odd"]
    assert table["label"].to_pylist() == [1, 2, None]
    assert table["odd"].to_pylist() == ["1", '"two"', None]
    assert [sample.key for sample in samples][::2] == ["a/x_v1", "y"]
    assert samples[1].key.startswith("a/x_v1-")
