"""Shards: what is read, by what names, and what comes out of broken and hostile ones."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import re
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from shard_factory import HF_IMAGE, image_bytes, read_tar, write_hf_parquet, write_tar

from nst_ops.media.errors import MissingEndError, OutputCollisionError, UnreadableShardError
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
    assert [sample.key for sample in samples] == ["a", "b"]


THREE = [(f"{n}.{kind}", data) for n in range(3) for kind, data in (("png", b"x" * 600), ("cls", b"7"))]
SAMPLE_BYTES = 512 + 1024 + 512 + 512
"""Size of each of these samples in a tar; the last 511 bytes are padding."""


def test_a_tar_cut_anywhere_gives_what_was_read_whole_and_no_half_sample(tmp_path: Path) -> None:
    whole = write_tar(tmp_path / "s.tar", THREE).read_bytes()
    for cut in range(SAMPLE_BYTES - 511, 3 * SAMPLE_BYTES + 500, 90):
        (tmp_path / "s.tar").write_bytes(whole[:cut])
        samples: list[Sample] = []
        with pytest.raises(UnreadableShardError, match=r"copy or make it again|no end mark"):
            collect(open_shard(str(tmp_path / "s.tar")), samples)
        assert [sample.key for sample in samples] == [str(n) for n in range((cut + 511) // SAMPLE_BYTES)]
        assert all(len(sample.parts) == 2 for sample in samples)


def stored(data: bytes) -> bytes:
    return gzip.compress(data, 0)


@pytest.mark.parametrize("compress", [stored, gzip.compress, bz2.compress, lzma.compress])
def test_a_compressed_tar_cut_anywhere_gives_no_half_sample(tmp_path: Path, compress: Callable[[bytes], bytes]) -> None:
    whole = compress(write_tar(tmp_path / "s.tar", [(name, RED) for name, _ in THREE]).read_bytes())
    counts = []
    for cut in range(len(whole) // 3, len(whole), max(1, len(whole) // 60)):
        (tmp_path / "s.tar").write_bytes(whole[:cut])
        samples: list[Sample] = []
        with pytest.raises(UnreadableShardError, match="copy or make it again"):
            collect(open_shard(str(tmp_path / "s.tar")), samples)
        assert all(len(sample.parts) == 2 for sample in samples[1:])  # none is before the first to compare it with
        counts.append(len(samples))
    assert counts == sorted(counts)
    (tmp_path / "s.tar").write_bytes(whole[:-1])  # all of its files are there
    with pytest.raises(UnreadableShardError):
        collect(open_shard(str(tmp_path / "s.tar")), samples := [])
    assert len(samples) == 3


@pytest.mark.parametrize("zeros", [0, 100])
def test_a_tar_without_an_end_is_whole_and_says_so(tmp_path: Path, zeros: int) -> None:
    path = write_tar(tmp_path / "s.tar", THREE)
    path.write_bytes(path.read_bytes()[: 3 * SAMPLE_BYTES] + bytes(zeros))
    samples: list[Sample] = []
    with pytest.raises(MissingEndError, match="no end mark"):
        collect(open_shard(str(path)), samples)
    assert [len(sample.parts) for sample in samples] == [2, 2, 2]


def test_junk_behind_the_last_file_costs_no_sample(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "s.tar", THREE)
    whole = path.read_bytes()
    for data in (whole[: 3 * SAMPLE_BYTES] + b"junk" * 300, whole[: 3 * SAMPLE_BYTES] + b"junk", whole + b"junk" * 300):
        path.write_bytes(data)
        samples: list[Sample] = []
        with pytest.raises(UnreadableShardError, match=r"after 6 of its files: copy or make it again$"):
            collect(open_shard(str(path)), samples)
        assert [len(sample.parts) for sample in samples] == [2, 2, 2]


def test_a_sample_whose_next_header_is_broken_is_named_and_not_given_half(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "s.tar", [("x/0.png", RED), ("x/1.png", RED), ("x/1.cls", b"7")])
    data = bytearray(path.read_bytes())
    data[2 * TAR_BYTES + 130] ^= 1  # in the size, so that the sum is wrong
    path.write_bytes(data)
    samples: list[Sample] = []
    with pytest.raises(UnreadableShardError, match=r"again; its sample 'x/1' is cut off and left out"):
        collect(open_shard(str(path)), samples)
    assert [sample.key for sample in samples] == ["x/0"]


JPEG = image_bytes(3, "jpg")


def test_an_image_whose_name_says_nothing_is_known_by_its_content(tmp_path: Path) -> None:
    members = [("photo", JPEG), ("x/1.raster", RED), ("x/1.cls", RED), ("notes", b"text"), ("2.bin", b"\1\2")]
    shard = open_shard(str(write_tar(tmp_path / "s.tar", [*members, ("photo", RED)])))
    images = [image for sample in shard.samples() for image in sample.images]
    names = [(image.member, image.name, image.data, image.by_content) for image in images[:2]]
    assert names == [("photo", "photo.jpg", JPEG, True), ("x/1.raster", "x/1.raster.png", RED, True)]
    assert ["second image of this name" in str(image.error) for image in images] == [False, False, True]
    samples = [[part.name for part in sample.parts] for sample in shard.samples()]
    assert samples == [["photo"], ["x/1.raster", "x/1.cls"], ["notes"], ["2.bin"], ["photo"]]


HIDDEN = ["@eaDir/a.jpg/SYNOPHOTO_THUMB_XL.jpg", "x/@eaDir/a", "__MACOSX/._a.png", "._b.png", ".thumbs/c.png", ".d"]


def test_what_systems_keep_beside_images_is_carried_along(tmp_path: Path) -> None:
    members = [(name, RED) for name in HIDDEN] + [("Thumbs.db", b"\xd0\xcf\x11\xe0"), (".DS_Store", b"Bud1")]
    path = write_tar(tmp_path / "s.tar", [("./a/../b.png", BLUE), *members])
    with tarfile.open(path, "a") as tar:
        folder = tarfile.TarInfo("@eaDir/a.jpg")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
    samples = list(open_shard(str(path)).samples())
    assert [image.data for sample in samples for image in sample.images] == [BLUE]
    assert [(part.name, part.data) for sample in samples[1:] for part in sample.parts] == members


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
    assert all(re.search(r"~[0-9a-f]{12}\.png$", name) for name in names)
    safe = [re.sub("~[0-9a-f]*", "", name) for name in names]
    assert safe == ["a.png", "etc/b.png", "c_[31m_.png", ".._d.png", "e/f.png", "bad_.png"]
    members = [p.member for sample in open_shard(str(path)).samples() for p in sample.images]
    assert "".join(members).encode()


def test_two_files_of_one_name_are_never_written(tmp_path: Path) -> None:
    source = write_tar(tmp_path / "s.tar", [("a.png", RED)])
    (sample,) = open_shard(str(source)).samples()
    with open_writer(str(tmp_path / "copy.tar"), None) as writer:
        writer.write(sample, unchanged(sample))
        with pytest.raises(OutputCollisionError, match="rename"):
            writer.write(sample, unchanged(sample))
    assert read_tar(tmp_path / "copy.tar") == {"a.png": RED}


def latin1_tar(path: Path, members: list[tuple[str, bytes]]) -> Path:
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT, encoding="latin-1") as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def test_names_that_change_stay_apart_and_take_labels_along(tmp_path: Path) -> None:
    odd = [("caf\xe9.png", RED), ("caf\xe9.cls", b"1"), ("caf\xe8.png", BLUE), ("caf\xe8.cls", b"2")]
    fields = [("a.\xe9.png", RED), ("a.\xe8.png", BLUE), ("a._.png", RED)]
    up = [("../up.png", BLUE), ("../up.cls", b"3"), ("up.png", RED), ("up.cls", b"4")]
    shard = open_shard(str(latin1_tar(tmp_path / "s.tar", [*odd, *fields, *up])))
    files = list(read_tar(copy(shard, tmp_path / "copy.tar")).items())
    assert [data for _, data in files] == [data for _, data in [*odd, *fields, *up]]
    assert len({name for name, _ in files}) == len(files)
    keys = [split_name(name)[0] for name, _ in files]
    assert keys[0] == keys[1] != keys[2] == keys[3]
    assert keys[4:7] == ["a"] * 3
    assert keys[7] == keys[8] != keys[9]
    assert [name for name, _ in files if "~" not in name] == ["a._.png", "up.png", "up.cls"]
    assert len([sample for sample in shard.samples() if sample.images]) == 5


@pytest.mark.parametrize("between", [[], [("x.png", RED)]])
def test_an_image_that_changes_its_extension_leaves_a_name(tmp_path: Path, between: list[tuple[str, bytes]]) -> None:
    members = [("n", RED), ("n.cls", b"1"), *between, ("n.png", BLUE)]
    shard = open_shard(str(write_tar(tmp_path / "s.tar", members)))
    files = read_tar(copy(shard, tmp_path / "copy.tar"))
    assert list(files.values()) == [data for _, data in members]
    first, *rest = files
    assert rest == [name for name, _ in members[1:]]
    assert re.fullmatch(r"n\.~[0-9a-f]{12}\.png", first)


# Tars as people make them.


def names_in(path: Path) -> list[str]:
    """The images of a shard that have no problem; UnreadableShardError where it is damaged."""
    return [i.member for sample in open_shard(str(path)).samples() for i in sample.images if i.error is None]


def joined(path: Path, *parts: Path, zeros: int = 0) -> Path:
    path.write_bytes((b"\0" * zeros).join(part.read_bytes() for part in parts))
    return path


@pytest.mark.parametrize(("mode", "suffix"), [("w", ".tar"), ("w:gz", ".tgz"), ("w:gz", ".tar")])
def test_tars_written_one_after_the_other_are_one(tmp_path: Path, mode: str, suffix: str) -> None:
    members = [[(f"{n}.png", image_bytes(n)), (f"{n}.cls", b"%d" % n)] for n in range(3)]
    parts = [write_tar(tmp_path / f"{n}.part", each, mode) for n, each in enumerate(members)]
    path = joined(tmp_path / f"s{suffix}", *parts)
    assert names_in(path) == ["0.png", "1.png", "2.png"]
    assert list(read_tar(copy(open_shard(str(path)), tmp_path / "copy.tar")).items()) == [
        *members[0],
        *members[1],
        *members[2],
    ]
    if mode == "w":
        assert names_in(joined(tmp_path / "gap.tar", *parts, zeros=3 * 2**20)) == ["0.png", "1.png", "2.png"]


@pytest.mark.parametrize(("mode", "name"), [("w:xz", "s.tar.xz"), ("w:bz2", "s.TBZ2"), ("w:bz2", "s.tar.bz2")])
def test_compressed_tars_are_shards_by_name_and_read(tmp_path: Path, mode: str, name: str) -> None:
    assert media_kind(name) == "shard"
    path = write_tar(tmp_path / name, [("0.png", image_bytes(0)), ("0.cls", b"7")], mode)
    assert names_in(path) == ["0.png"]


@pytest.mark.skipif(not shutil.which("tar"), reason="there is no tar")
def test_what_gnu_tar_joins_and_thins_out_is_read(tmp_path: Path) -> None:
    (tmp_path / "holes.png").write_bytes(RED + b"\0" * 2**20 + b"end")
    (tmp_path / ("long" * 40 + ".png")).write_bytes(BLUE)
    for form in ("gnu", "pax", "oldgnu"):
        path = tmp_path / f"{form}.tar"
        command = ["tar", "-C", str(tmp_path), f"--format={form}", "--sparse", "-cf", str(path)]
        subprocess.run([*command, "holes.png", "long" * 40 + ".png"], check=True)
        images = [sample.images[0] for sample in open_shard(str(path)).samples()]
        assert [image.data for image in images] == [(tmp_path / "holes.png").read_bytes(), BLUE]
    other = write_tar(tmp_path / "other.tar", [("b.png", BLUE)])
    subprocess.run(["tar", "-Af", str(path), str(other)], check=True)
    assert names_in(path) == ["holes.png", "long" * 40 + ".png", "b.png"]


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_all_forms_of_tars_are_read_whatever_they_are_called(tmp_path: Path, form: int, mode: str) -> None:
    with tarfile.open(tmp_path / "s.tar", mode, format=form) as tar:
        for name in ("a.png", "é/" + "x" * 60 + "/" + "y" * 60 + ".png"):
            info = tarfile.TarInfo(name)
            info.size = len(RED)
            if form == tarfile.PAX_FORMAT:
                info.pax_headers = {"comment": "x" * 2000, "mtime": "1.5"}
            tar.addfile(info, io.BytesIO(RED))
    assert names_in(tmp_path / "s.tar") == ["a.png", "é/" + "x" * 60 + "/" + "y" * 60 + ".png"]


def test_headers_of_the_first_tars_are_read(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "s.tar", [("a.png", RED)])
    data = bytearray(path.read_bytes())
    data[156:157], data[257:512] = b"\0", bytes(255)  # no type, no magic
    data[148:156] = b" " * 8
    data[148:156] = b"%06o\0 " % sum(data[:512])
    path.write_bytes(data)
    assert names_in(path) == ["a.png"]


@pytest.mark.parametrize(
    ("start", "message"),
    [
        (b"\x28\xb5\x2f\xfd", "Zstandard: decompress it, zstd -d"),
        (b"PK\x03\x04", "a zip file: unpack it"),
        (b"\x1f\x8bno", "no whole tar"),
        (b"", "no whole tar: empty file"),
    ],
)
def test_what_is_no_tar_says_what_it_is(tmp_path: Path, start: bytes, message: str) -> None:
    (tmp_path / "s.tar").write_bytes(start + (b"x" * 600 if start else b""))
    with pytest.raises(UnreadableShardError, match=message):
        names_in(tmp_path / "s.tar")


@pytest.mark.parametrize("cut", [100, 512 + 100, 1024])
def test_the_second_of_joined_tars_may_be_cut_off(tmp_path: Path, cut: int) -> None:
    first = write_tar(tmp_path / "1.part", [("a.png", RED), ("b.png", RED)])
    second = write_tar(tmp_path / "2.part", [("c.png", RED), ("d.png", RED)])
    second.write_bytes(second.read_bytes()[:cut])
    samples: list[Sample] = []
    with pytest.raises(UnreadableShardError, match=r"after [23] of its files: copy or make it again"):
        collect(open_shard(str(joined(tmp_path / "s.tar", first, second))), samples)
    assert [sample.key for sample in samples][:1] == ["a"]


def test_garbage_behind_a_tar_is_not_passed_over(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "s.tar", [("a.png", RED)])
    path.write_bytes(path.read_bytes() + b"garbage" * 100)
    with pytest.raises(UnreadableShardError, match="what follows its end is no tar, after 1 of its files"):
        names_in(path)


def test_a_header_that_leads_back_is_no_endless_tar(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "s.tar", [("a.png", RED), ("b.png", RED)])
    data = bytearray(path.read_bytes())
    header = memoryview(data)[TAR_BYTES : TAR_BYTES + 512]
    header[124:136] = b"\xff" * 10 + b"\xfc\x00"  # -1024 bytes
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    header.release()
    path.write_bytes(data)
    with pytest.raises(UnreadableShardError, match="impossible size"):
        names_in(path)


def add_link(tar: tarfile.TarFile, name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> None:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    tar.addfile(info)


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_a_link_is_the_file_in_the_shard_that_it_leads_to(tmp_path: Path, mode: str) -> None:
    first, second = tmp_path / "1.part", tmp_path / "2.part"
    with tarfile.open(write_tar(first, [("x/a.png", RED), ("x/a.cls", b"1")]), "a") as tar:
        add_link(tar, "x/hard.png", "x/a.png", tarfile.LNKTYPE)
        add_link(tar, "x/hard.cls", "./x/a.cls", tarfile.LNKTYPE)
        add_link(tar, "y/soft.png", "../x/b.png")  # of a file that follows, in the next tar
        add_link(tar, "y/soft.cls", "../x/hard.cls")
        add_link(tar, "y/loop.png", "loop.png")
        add_link(tar, "y/out.cls", "/etc/passwd")
        add_link(tar, "y/folder.png", "../x")
    with tarfile.open(write_tar(second, [("x/b.png", BLUE)]), "a") as tar:
        add_link(tar, "z.png", "x/a.png", tarfile.LNKTYPE)
    path = joined(tmp_path / "s.tar", first, second)
    if mode == "w:gz":
        path.write_bytes(gzip.compress(path.read_bytes()))
    shard = open_shard(str(path))
    images = {image.member: image for sample in shard.samples() for image in sample.images}
    assert {name: image.data for name, image in images.items() if image.error is None} == {
        **{"x/a.png": RED, "x/hard.png": RED, "y/soft.png": BLUE, "x/b.png": BLUE, "z.png": RED}
    }
    for name in ("y/loop.png", "y/out.cls", "y/folder.png"):
        assert "a link to nothing inside the shard" in str(images[name].error)
    good = [sample for sample in shard.samples() if all(image.error is None for image in sample.images)]
    with open_writer(str(tmp_path / "copy.tar"), None) as writer:
        for sample in good:
            writer.write(sample, unchanged(sample))
    files = read_tar(tmp_path / "copy.tar")
    assert files["x/hard.cls"] == files["y/soft.cls"] == b"1"


def test_folders_devices_and_volume_names_hold_nothing_or_say_so(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "s.tar", [("a.png", RED)])
    kinds = {"dir": tarfile.DIRTYPE, "label": b"V", "tty": tarfile.CHRTYPE, "pipe.png": tarfile.FIFOTYPE, "rest": b"M"}
    with tarfile.open(path, "a") as tar:
        for name, kind in kinds.items():
            info = tarfile.TarInfo(name)
            info.type = kind
            tar.addfile(info)
        info = tarfile.TarInfo("vendor.cls")
        info.type, info.size = b"Z", 1  # a type that nobody knows is a file
        tar.addfile(info, io.BytesIO(b"7"))
    samples = list(open_shard(str(path)).samples())
    problems = {image.member: str(image.error) for sample in samples for image in sample.images if image.error}
    assert set(problems) == {"tty", "pipe.png", "rest"}
    assert "device or a pipe" in problems["tty"]
    assert [(part.name, part.data) for part in samples[-1].parts] == [("vendor.cls", b"7")]


def test_a_file_that_is_too_large_to_read_is_refused_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nst_ops.media.shards.tar._MAX_BYTES", 1000)
    path = write_tar(tmp_path / "s.tar", [("a.png", b"x" * 1001), ("b.png", b"y" * 1000)])
    errors = [str(sample.images[0].error or "") for sample in open_shard(str(path)).samples()]
    assert "give it as a file of its own" in errors[0]
    assert errors[1] == ""


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


LIST = pa.list_(HF_IMAGE)


@pytest.mark.parametrize(
    "kind",
    [
        *(
            LIST,
            pa.large_list(HF_IMAGE),
            pa.list_(pa.field("element", HF_IMAGE, nullable=False)),
            pa.list_view(HF_IMAGE),
        ),
        *(pa.list_(pa.binary()), pa.list_(pa.large_binary())),
    ],
)
def test_lists_of_images_are_written_as_they_came(tmp_path: Path, kind: pa.DataType) -> None:
    plain = pa.types.is_binary(kind.value_type) or pa.types.is_large_binary(kind.value_type)
    rows = [[(RED, "a.png"), (BLUE, "b.png")], [], None, [(BLUE, "a.png")], [(RED, None), (BLUE, None)]]
    values = [row and [data if plain else {"bytes": data, "path": path} for data, path in row] for row in rows]
    texts = pa.array(["one", "two", None, "four", "five"])
    pq.write_table(
        pa.table({"images": pa.array(values, kind), "text": texts}), tmp_path / "s.parquet", row_group_size=2
    )
    shard = open_shard(str(tmp_path / "s.parquet"))
    copied = copy(shard, tmp_path / "copy.parquet", shard.layout())
    assert pq.read_table(copied).equals(pq.read_table(tmp_path / "s.parquet"))
    assert pq.read_schema(copied).equals(pq.read_schema(tmp_path / "s.parquet"), check_metadata=True)
    members = [[image.member for image in sample.images] for sample in shard.samples()]
    last = ["row-0000004-0", "row-0000004-1"]
    paths = [["a.png", "b.png"], [], [], ["row-0000003-0"], last]
    assert members == ([["row-0000000-0", "row-0000000-1"], *paths[1:]] if plain else paths)
    again = [[image.member for image in sample.images] for sample in open_shard(str(copied)).samples()]
    assert again == members


def test_lists_of_one_length_may_be_null(tmp_path: Path) -> None:
    kind = pa.list_(HF_IMAGE, 2)
    row = [{"bytes": RED, "path": "a.png"}, {"bytes": BLUE, "path": "b.png"}]
    pq.write_table(pa.table({"images": pa.array([row, None, row], kind), "n": [1, 2, 3]}), tmp_path / "s.parquet")
    shard = open_shard(str(tmp_path / "s.parquet"))
    copied = copy(shard, tmp_path / "copy.parquet", shard.layout())
    assert pq.read_table(copied).to_pylist() == pq.read_table(tmp_path / "s.parquet").to_pylist()


def test_an_image_of_a_list_that_fails_leaves_a_null_in_its_place(tmp_path: Path) -> None:
    row = [{"bytes": data, "path": f"{n}.png"} for n, data in enumerate([RED, b"bad", None, BLUE])]
    pq.write_table(pa.table({"images": pa.array([[*row, None]], LIST)}), tmp_path / "s.parquet")
    shard = open_shard(str(tmp_path / "s.parquet"))
    (sample,) = shard.samples()
    assert [str(image.error or "")[:21] for image in sample.images] == ["", "", "a row without the byt", ""]
    good = {
        image.member: StylizedImage(image.name, image.data) for image in sample.images if image.name in "0.png 3.png"
    }
    with open_writer(str(tmp_path / "copy.parquet"), shard.layout()) as writer:
        assert writer.write(sample, good) == {"0.png": "0.png", "3.png": "3.png"}
    (images,) = pq.read_table(tmp_path / "copy.parquet")["images"].to_pylist()
    assert images == [row[0], None, None, row[3], None]


def test_other_fields_of_an_image_come_back_as_they_were(tmp_path: Path) -> None:
    fields = {
        "bytes": pa.array([RED, BLUE, None], pa.large_binary()),
        "license": pa.array(["CC-BY", None, None]),
        "path": pa.array(["a.png", "b.png", None], pa.large_string()),
        "taken": pa.array([1_700_000_000_123_456_789, None, None], pa.timestamp("ns", tz="UTC")),
        "boxes": pa.array([[{"x": 1.5}], [], None]),
        "kind": pa.array(["x", "y", None]).dictionary_encode(),
    }
    cells = pa.StructArray.from_arrays(list(fields.values()), list(fields), mask=pa.array([False, False, True]))
    lists = pa.ListArray.from_arrays([0, 2, 3], cells)
    for name, column in {"single": cells, "lists": lists}.items():
        source = tmp_path / f"{name}.parquet"
        pq.write_table(pa.table({"image": column, "label": list(range(len(column)))}), source)
        shard = open_shard(str(source))
        copied = copy(shard, tmp_path / f"{name}.copy.parquet", shard.layout())
        assert pq.read_schema(copied).equals(pq.read_schema(source), check_metadata=True)
        assert pq.read_table(copied).equals(pq.read_table(source))
    files = read_tar(copy(open_shard(str(tmp_path / "lists.parquet")), tmp_path / "lists.tar"))
    assert list(files)[:4] == ["a.0.png", "a.1.png", "a.cls", "a.json"]
    first, second = json.loads(files["a.json"])["image"]
    assert first["path"] == "a.png"
    assert first["taken"].startswith("2023-11-14 22:13:20.123456789")
    assert second["license"] is None


def test_a_row_without_an_image_stays_a_row(tmp_path: Path) -> None:
    columns = {"image": pa.array([RED, None, BLUE]), "label": [1, 2, 3], "text": ["a", "b", "c"]}
    pq.write_table(pa.table(columns), tmp_path / "s.parquet")
    shard = open_shard(str(tmp_path / "s.parquet"))
    assert [len(sample.images) for sample in shard.samples()] == [1, 0, 1]
    copied = copy(shard, tmp_path / "copy.parquet", shard.layout())
    assert pq.read_table(copied).equals(pq.read_table(tmp_path / "s.parquet"))
    files = read_tar(copy(shard, tmp_path / "s.tar"))
    assert files["row-0000001.cls"] == b"2"
    assert json.loads(files["row-0000001.json"]) == {"text": "b"}


def test_columns_of_every_type_come_back(tmp_path: Path) -> None:
    columns = {
        "large": pa.array(["007", None], pa.large_string()),
        "view": pa.array(["3.7", ""], pa.string_view()),
        "bytes view": pa.array([b"", None], pa.binary_view()),
        "id": pa.array([b"ab", b"cd"], pa.binary(2)),
        "price": pa.array([Decimal("1.10"), None], pa.decimal128(9, 2)),
        "half": pa.array([1.5, None], pa.float16()),
        "when": pa.array([1, None], pa.timestamp("ns", tz="Europe/Berlin")),
        "span": pa.array([5, None], pa.duration("ns")),
        "time": pa.array([5, None], pa.time64("ns")),
        "map": pa.array([[("a", 1), ("a", 2)], None], pa.map_(pa.string(), pa.int64())),
        "split": pa.array(["x", None]).dictionary_encode(),
        "deep": pa.array(
            [[{"a": [{"b": None}]}], None], pa.list_(pa.struct([("a", pa.list_(pa.struct([("b", pa.int8())])))]))
        ),
        "u64": pa.array([2**64 - 1, None], pa.uint64()),
        "nothing": pa.nulls(2),
    }
    schema = pa.schema([pa.field(name, column.type, metadata={"note": name}) for name, column in columns.items()])
    table = pa.table([*columns.values()], schema=schema.with_metadata({"maker": "somebody"}))
    table = table.append_column(pa.field("image", HF_IMAGE), pa.array([{"bytes": RED, "path": "a.png"}] * 2, HF_IMAGE))
    pq.write_table(table, tmp_path / "s.parquet")
    shard = open_shard(str(tmp_path / "s.parquet"))
    copied = copy(shard, tmp_path / "copy.parquet", shard.layout())
    assert pq.read_schema(copied).equals(pq.read_schema(tmp_path / "s.parquet"), check_metadata=True)
    assert pq.read_table(copied).equals(pq.read_table(tmp_path / "s.parquet"))
    values = json.loads(read_tar(copy(shard, tmp_path / "s.tar"))["a.json"])
    assert (values["large"], values["view"], values["u64"]) == ("007", "3.7", 2**64 - 1)
    assert values["price"] == "1.10"


def test_row_groups_without_rows_do_not_cut_the_others(tmp_path: Path) -> None:
    table = pa.table({"image": pa.array([{"bytes": RED, "path": f"{n}.png"} for n in range(6)], HF_IMAGE)})
    with pq.ParquetWriter(tmp_path / "s.parquet", table.schema) as writer:
        writer.write_table(table.slice(0, 0))
        writer.write_table(table.slice(0, 4), row_group_size=4)
        writer.write_table(table.slice(4), row_group_size=4)
    shard = open_shard(str(tmp_path / "s.parquet"))
    copied = pq.ParquetFile(copy(shard, tmp_path / "copy.parquet", shard.layout()))
    assert [copied.metadata.row_group(n).num_rows for n in range(copied.num_row_groups)] == [4, 2]


def test_bytes_in_a_dictionary_are_images(tmp_path: Path) -> None:
    column = pa.array([RED, BLUE, RED]).dictionary_encode()
    pq.write_table(pa.table({"jpg": column, "n": [1, 2, 3]}), tmp_path / "s.parquet")
    shard = open_shard(str(tmp_path / "s.parquet"))
    copied = copy(shard, tmp_path / "copy.parquet", shard.layout())
    assert pq.read_table(copied).to_pylist() == pq.read_table(tmp_path / "s.parquet").to_pylist()


def test_images_further_in_are_refused_with_what_to_do(tmp_path: Path) -> None:
    turns = pa.array([[{"role": "user", "image": {"bytes": RED, "path": "a.png"}}]])
    pq.write_table(pa.table({"turns": turns}), tmp_path / "s.parquet")
    with pytest.raises(UnreadableShardError, match="bytes only further in: move the images into a column"):
        open_shard(str(tmp_path / "s.parquet"))


def test_an_encrypted_parquet_says_so(tmp_path: Path) -> None:
    source = write_hf_parquet(tmp_path / "s.parquet", [RED])
    data = source.read_bytes()
    source.write_bytes(data[:-4] + b"PARE")  # the mark of an encrypted footer
    with pytest.raises(UnreadableShardError, match="encrypted"):
        open_shard(str(source))


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


def test_labels_that_are_no_neighbors_of_their_images_become_columns(tmp_path: Path) -> None:
    members = [
        *[("a.png", RED), ("b.left.png", RED), ("text only.txt", b"words"), ("b.right.png", BLUE), ("._a.png", b"")],
        *[("a.cls", b"007"), ("b.cls", b"2"), ("a.json", b"{}"), ("README", b"text"), ("text only.json", b"[]")],
    ]
    for mode in ("w", "w:gz"):
        shard = open_shard(str(write_tar(tmp_path / "s.tar", members, mode)))
        table = pq.read_table(copy(shard, tmp_path / "s.parquet", shard.layout()))
        assert table["__key__"].to_pylist() == ["a", "b", "text only", "b"]
        assert table["cls"].to_pylist() == ["007", "2", None, "2"]
        assert table["json"].to_pylist() == ["{}", None, "[]", None]
        assert table["txt"].to_pylist() == [None, None, "words", None]
        assert table["image"][2].as_py() is None
        assert [sample.name for sample in shard.samples() if not sample.is_in_table] == ["._a.png", "README"]
        copied = open_shard(str(tmp_path / "s.parquet"))
        assert [len(sample.images) for sample in copied.samples()] == [1, 1, 0, 1]
        assert list(read_tar(copy(shard, tmp_path / "copy.tar")).items()) == members


def test_two_labels_of_one_name_fail_their_images(tmp_path: Path) -> None:
    members = [("a.png", RED), ("b.png", RED), ("a.cls", b"1"), ("b.cls", b"1"), ("a.cls", b"2"), ("b.cls", b"1")]
    shard = open_shard(str(write_tar(tmp_path / "s.tar", members)))
    with open_writer(str(tmp_path / "s.parquet"), shard.layout()) as writer:
        first, second, *_ = shard.samples()
        with pytest.raises(OutputCollisionError, match=r"another a\.cls"):
            writer.write(first, unchanged(first))
        writer.write(second, unchanged(second))


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
    assert table["odd"].to_pylist() == ["1", "two", None]
    assert [sample.key for sample in samples][::2] == ["a/x_v1", "y"]
    assert samples[1].key.startswith("a/x_v1-")
