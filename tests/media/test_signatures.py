"""The first bytes of a file say what it is."""

import base64
import gzip
import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from media_factory import moving_frames, natural_image, write_video
from PIL import Image

from nst_ops.media.errors import UnreadableImageError, UnreadableShardError, UnreadableVideoError
from nst_ops.media.formats import is_unknown, kind_and_reason, media_kind
from nst_ops.media.images import decode_image
from nst_ops.media.shards import open_shard
from nst_ops.media.signatures import HEAD_BYTES, content_format, content_kind
from nst_ops.media.video.container import open_input


@pytest.mark.parametrize(
    "image_format", ["JPEG", "MPO", "PNG", "GIF", "WEBP", "TIFF", "BMP", "AVIF", "JPEG2000", "QOI", "ICNS"]
)
def test_images_are_known(image_format):
    buffer = io.BytesIO()
    natural_image("coffee", 32, 32).save(buffer, image_format)
    assert content_kind(buffer.getvalue()[:HEAD_BYTES]) == "image"
    assert content_format(buffer.getvalue()) == ("JPEG" if image_format == "MPO" else image_format)


@pytest.mark.parametrize(
    "extension", [".mp4", ".mov", ".mkv", ".avi", ".ts", ".mpg", ".flv", ".wmv", ".webm", ".3gp", ".mxf"]
)
def test_videos_are_known(extension, tmp_path):
    path = tmp_path / f"a{extension}"
    codec = {".webm": "libvpx", ".mpg": "mpeg2video", ".mxf": "mpeg2video", ".wmv": "wmv2", ".flv": "flv"}.get(
        extension, "libx264"
    )
    write_video(path, moving_frames(3, 176, 144), codec=codec)
    assert content_kind(path.read_bytes()[:HEAD_BYTES]) == "video"


@pytest.mark.parametrize(
    "head",
    [
        *(b"", b"\0", b"text", b"RIFF", b"RIFF\0\0\0\0WAVEfmt ", b"fLaC\0\0\0\x22", b"ID3\4\0\0\0\0\0\0"),
        *(b"\0\0\0\x20ftypM4A ", b"OggS\0\2" + bytes(22) + b"\x13OpusHead", b"PK\3\4", b"\x7fELF", b"BM and more"),
        *(b"GIF87b", b"II*\0\x10\0\0\0CR\2\0", b"G" + bytes(500), b"#!/bin/sh\n", b"<svg/>", b"P5 is a name"),
    ],
)
def test_what_is_no_picture_is_other(head):
    assert content_kind(head) == "other"


LFS_POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12345\n"
NOT_THE_FILE = {
    "Git LFS": (LFS_POINTER, "git lfs pull"),
    "gzip": (gzip.compress(b"\xff\xd8\xff and so on"), "gzip -d"),
    "HTML": (b"<!DOCTYPE html><html><body>404</body></html>", "web page"),
    "JSON": (b'{"error": "not found"}', "JSON"),
    "archive": (b"PK\3\4\x14\0", "unpack it"),
    "base64": (base64.b64encode(b"\xff\xd8\xff\xe0" + bytes(200)), "base64"),
}


@pytest.mark.parametrize("form", list(NOT_THE_FILE))
def test_what_lies_in_place_of_a_file_is_named_with_its_remedy(form, tmp_path):
    data, said = NOT_THE_FILE[form]
    assert (content_format(data), content_kind(data)) == (form, "other")
    with pytest.raises(UnreadableImageError, match=said):
        decode_image(data)
    (tmp_path / "a.mp4").write_bytes(data)
    with pytest.raises(UnreadableVideoError, match=said):
        open_input(str(tmp_path / "a.mp4"))


@pytest.mark.parametrize("name", ["a.tar", "a.parquet"])
def test_a_shard_that_was_not_pulled_says_so(tmp_path, name):
    (tmp_path / name).write_bytes(LFS_POINTER)
    with pytest.raises(UnreadableShardError, match="git lfs pull"):
        list(open_shard(str(tmp_path / name), "image").samples())


@given(st.binary(max_size=64))
def test_any_bytes_have_a_kind(head):
    assert content_kind(head) in ("image", "video", "other")


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("twitter.jpg_large", "image"),
        ("cdn.jpg?w=640", "image"),
        ("cdn.PNG?w=640&h=1.5", "image"),
        ("clip.mp4?token=a.b", "video"),
        ("photo.jpg!w640", "image"),
        ("a.jpg_meta.json", "other"),
        ("a.jpg.txt", "other"),
        ("DSCF0001.MPO", "image"),
        ("old.qt", "video"),
        ("mms.3gpp", "video"),
        ("go.mod", "other"),
        ("a.jxl", "image"),
    ],
)
def test_names_that_a_download_made_longer_keep_their_kind(name, kind):
    assert media_kind(name) == kind


def test_sidecars_are_other_before_anyone_looks_into_them():
    assert kind_and_reason("a/._b.jpg")[0] == "other"
    assert kind_and_reason("a/.b.jpg") == ("image", None)
    assert kind_and_reason("a/.b.jpg", takes_hidden=False)[0] == "other"
    assert is_unknown("0a1b2c")
    assert not is_unknown("a.jpg")
    assert not is_unknown("a.json")


def test_no_image_of_ours_is_taken_for_another(tmp_path: Path):
    Image.new("RGB", (3, 3)).save(tmp_path / "a.tga")
    assert content_kind((tmp_path / "a.tga").read_bytes()) == "other"
