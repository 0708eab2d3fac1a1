"""A format of shards is one entry of the registry and the module that it names."""

from __future__ import annotations

import tarfile
import zipfile
from pathlib import Path
from typing import get_args

import pytest
from shard_factory import image_bytes

from nst_ops.config.stylize import ShardsConfig
from nst_ops.media.errors import UnreadableShardError
from nst_ops.media.formats import SHARD_FORMATS, ShardEntry, media_kind, shard_output
from nst_ops.media.shards import StylizedImage, TakenNames, open_shard, open_writer
from nst_ops.media.shards.sample import FilesSample, Member, ShardImage, label_layout, split_name
from nst_ops.storage.names import safe_name


class ZipReader:
    def __init__(self, path: str, image_column: str) -> None:
        self._path, self._column = path, image_column

    def samples(self):
        try:
            with zipfile.ZipFile(self._path) as archive:
                for info in archive.infolist():
                    name, data = safe_name(info.filename), archive.read(info)
                    is_image = media_kind(name) == "image"
                    image = ShardImage(info.filename, name, data) if is_image else None
                    yield FilesSample(split_name(name)[0], (Member(name, data, image),), self._column)
        except (zipfile.BadZipFile, OSError) as error:
            raise UnreadableShardError(f"no whole zip: {error}: copy or make it again") from error

    def layout(self):
        return label_layout(self._column, (sample.labels() for sample in self.samples() if sample.images))


class ZipWriter:
    def __init__(self, path: str, layout: object = None) -> None:
        self._zip, self._names = zipfile.ZipFile(path, "w"), TakenNames()

    def __enter__(self):
        return self

    def __exit__(self, *_: object) -> None:
        self._zip.close()

    def write(self, sample, stylized):
        members = sample.members(stylized)
        self._names.claim(member.name for member in members)
        for member in members:
            self._zip.writestr(zipfile.ZipInfo(member.name), member.data)
        return {member.image.member: member.name for member in members if member.image}


@pytest.fixture
def _with_zip(monkeypatch) -> None:
    entry = ShardEntry("zip", extension=".zip", reader=f"{__name__}:ZipReader", writer=f"{__name__}:ZipWriter")
    monkeypatch.setitem(SHARD_FORMATS, "zip", entry)


@pytest.mark.usefixtures("_with_zip")
def test_an_entry_and_its_classes_are_all_that_a_format_needs(tmp_path: Path) -> None:
    red, blue = image_bytes(1), image_bytes(2)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name, data in (("x/1.png", red), ("notes.txt", b"words"), ("2.png", blue)):
            archive.writestr(name, data)
    assert (media_kind("a.ZIP"), shard_output("a.zip")) == ("shard", ("a.zip", "zip"))
    shard = open_shard(str(tmp_path / "a.zip"))
    for output in ("b.zip", "b.tar", "b.parquet"):
        with open_writer(str(tmp_path / output), shard.layout()) as writer:
            for sample in shard.samples():
                writer.write(sample, {i.member: StylizedImage(i.name, i.data) for i in sample.images})
        images = [i for sample in open_shard(str(tmp_path / output)).samples() for i in sample.images]
        assert [(image.member, image.data) for image in images] == [("x/1.png", red), ("2.png", blue)]
    assert zipfile.ZipFile(tmp_path / "b.zip").read("notes.txt") == b"words"


def test_the_configuration_offers_every_format() -> None:
    wanted = get_args(ShardsConfig.model_fields["format"].annotation)
    assert set(wanted) == {"auto", "files", *SHARD_FORMATS}


def test_a_file_that_no_format_names_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(
        UnreadableShardError, match=r"\.tar, \.tgz, \.tar\.gz, \.tbz2, \.tar\.bz2, \.txz, \.tar\.xz, \.parquet"
    ):
        open_shard(str(tmp_path / "a.rar"))


def test_a_tar_whose_remarks_are_endless_is_refused(tmp_path):
    info = tarfile.TarInfo("a.png")
    info.size, info.type = 2**32, tarfile.XHDTYPE  # of which no more than its header is read
    (tmp_path / "a.tar").write_bytes(info.tobuf() + bytes(2**22))
    with pytest.raises(UnreadableShardError, match="a header of 4,294,967,296 bytes"):
        list(open_shard(str(tmp_path / "a.tar"), "image").samples())
