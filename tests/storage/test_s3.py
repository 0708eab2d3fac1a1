"""Folders in a bucket of a real S3 server, with as few requests as there can be."""

import os
import pickle
from collections.abc import Iterator
from pathlib import Path

import pytest
from fault_proxy import FaultProxy
from s3_server import S3Server, client, reached_by

from nst_ops.config.storage import StorageConfig
from nst_ops.storage import Folder, configure_storage
from nst_ops.storage.remote import RemoteFile

pytestmark = pytest.mark.s3
ODD_NAMES = ["a b#c?d", "100%", "%20+", "a::b", "x*[y]{z}'", "é映画", "a\\b&c=d"]


@pytest.fixture
def proxy(s3: S3Server) -> Iterator[FaultProxy]:
    """Counts requests, and lets none fail."""
    with FaultProxy(s3.endpoint) as proxy, reached_by(proxy.endpoint):
        yield proxy


@pytest.fixture
def folder(prefix: str, proxy: FaultProxy) -> Folder:
    return Folder(f"{prefix}/out")


def spent(proxy: FaultProxy) -> dict[str, int]:
    """Requests since the last look."""
    counts = dict(proxy.counts)
    proxy.counts.clear()
    return counts


def uploads(s3: S3Server, folder: Folder) -> list[str]:
    bucket, prefix, _ = folder.root.split("/")
    page = client(s3.endpoint).call_s3("list_multipart_uploads", Bucket=bucket, Prefix=prefix)
    return [upload["Key"].removeprefix(f"{prefix}/") for upload in page.get("Uploads", [])]


def test_any_name_is_written_listed_and_read(folder):
    for name in ODD_NAMES:
        folder.write_bytes(f"{name}/{name}.txt", name.encode())
    assert {info.relpath for info in folder.files()} == {f"{name}/{name}.txt" for name in ODD_NAMES}
    assert folder.list() == sorted(ODD_NAMES)
    for name in ODD_NAMES:
        assert folder.read_bytes(f"{name}/{name}.txt") == name.encode()
        assert folder.exists(name)
        assert Folder(folder.uri(name)).exists(f"{name}.txt")


def test_a_file_costs_one_request_to_write_and_one_to_read(folder, proxy):
    folder.write_bytes("a/b.txt", b"words")
    assert spent(proxy) == {"PUT": 1}
    assert folder.read_bytes("a/b.txt") == b"words"
    assert spent(proxy) == {"GET": 1}
    assert folder.file("a/b.txt") == next(folder.files())
    assert spent(proxy) == {"HEAD": 1, "LIST": 1}
    folder.remove("a/b.txt")
    assert spent(proxy) == {"LIST": 1, "POST": 1}
    assert not folder.exists("a/b.txt")


def test_files_read_ahead_keep_order_and_their_own_errors(folder, proxy):
    for number in range(9):
        folder.write_bytes(f"{number}", b"%d" % number)
    folder.remove("5")
    spent(proxy)
    reads = folder.read_ahead((f"{number}" for number in range(9)), streams=3)
    assert next(reads)() == b"0"
    assert spent(proxy)["GET"] <= 3
    for number, read in enumerate(reads, 1):
        if number == 5:
            with pytest.raises(FileNotFoundError, match="/out/5"):
                read()
        else:
            assert read() == b"%d" % number
    assert spent(proxy).keys() == {"GET"}


def test_an_empty_file_is_one(folder):
    folder.write_bytes("empty", b"")
    assert folder.read_bytes("empty") == b""
    with folder.local_copy("empty") as path:
        assert Path(path).read_bytes() == b""


def test_a_listing_is_read_page_after_page(folder, proxy, monkeypatch):
    monkeypatch.setattr("nst_ops.storage.s3._KEYS_PER_REQUEST", 3)
    names = [f"{number}.txt" for number in range(8)]
    for name in names:
        folder.write_bytes(name, b"x")
    bucket, _, key = folder.path("marker/").partition("/")
    client(proxy.endpoint).call_s3("put_object", Bucket=bucket, Key=key)
    spent(proxy)
    files = folder.files()
    assert next(files).relpath == "0.txt"
    assert not folder.is_empty()
    assert spent(proxy) == {"LIST": 2}
    assert [info.relpath for info in files] == names[1:]
    assert spent(proxy) == {"LIST": 2}
    assert folder.list() == [*names, "marker"]
    assert folder.list("marker") == folder.list("nowhere") == []
    folder.remove_many(names[:4])
    assert folder.list() == [*names[4:], "marker"]
    folder.remove("")
    assert folder.is_empty()


def test_a_prefix_is_not_its_namesake(folder):
    folder.write_bytes("video-1/a", b"x")
    folder.write_bytes("video-10/a", b"x")
    folder.write_bytes("video-1.mp4", b"x")
    folder.remove("video-1")
    assert folder.list() == ["video-1.mp4", "video-10"]
    assert not folder.exists("video")
    assert not folder.is_file()
    assert Folder(folder.uri("video-1.mp4")).is_file()


def test_a_part_of_a_file_costs_a_part_of_its_bytes(folder, proxy):
    data = os.urandom(2**20)
    folder.write_bytes("a/video.mp4", data)
    proxy.num_bytes.clear()
    media = folder.media_source("a/video.mp4")
    assert isinstance(media, RemoteFile)
    assert (media.name, media.num_bytes) == ("video.mp4", len(data))
    spent(proxy)
    with folder.open("a/video.mp4", block_bytes=4096) as file:
        assert file.seek(0, os.SEEK_END) == len(data)
        file.seek(-10, os.SEEK_CUR)
        assert file.read() == data[-10:]
        file.seek(500_000)
        assert file.read(1000) + file.read(1000) == data[500_000:502_000]
        assert spent(proxy) == {"HEAD": 1, "GET": 2}
        assert proxy.num_bytes["GET"] < 10_000
    with folder.open("a/video.mp4") as file:
        assert file.read() == data


def test_a_large_file_is_uploaded_and_downloaded_in_parts(folder, proxy, s3, monkeypatch):
    monkeypatch.setattr("nst_ops.storage.s3._PART_BYTES", 100_000)
    monkeypatch.setattr("nst_ops.storage.remote._DOWNLOAD_BLOCK_BYTES", 100_000)
    data = os.urandom(950_000)
    folder.write_bytes("a.mp4", data)
    assert spent(proxy) == {"POST": 2, "PUT": 10, "HEAD": 1}
    with folder.local_copy("a.mp4") as path:
        assert Path(path).read_bytes() == data
        assert path.endswith(".mp4")
    assert spent(proxy) == {"HEAD": 1, "GET": 10}
    assert uploads(s3, folder) == []


def test_uploads_that_killed_runs_left_go_away_and_others_stay(folder, s3):
    bucket, prefix, _ = folder.root.split("/")
    for name in ("out/a/b.mp4", "out/c.mp4", "out-of-another/a.mp4"):
        client(s3.endpoint).call_s3("create_multipart_upload", Bucket=bucket, Key=f"{prefix}/{name}")
    folder.remove_scratch()
    assert uploads(s3, folder) == ["out-of-another/a.mp4"]


def test_writing_needs_no_right_to_list_uploads(folder, proxy, caplog):
    proxy.rule = lambda operation, path: "denied" if "uploads" in path else None
    folder.remove_scratch()
    assert "s3:ListBucketMultipartUploads" in caplog.text
    folder.write_bytes("a", b"x")


def test_a_folder_is_uploaded_in_the_order_of_names(folder, proxy):
    order = []
    folder.write_bytes("video/old.png", b"x")
    proxy.rule = lambda operation, path: order.append(path) if operation == "PUT" else None
    with folder.atomic_write_folder("video") as temporary:
        for name in ("frames.csv", "000002.png", "000001.png"):
            (temporary / name).write_bytes(name.encode())
        assert folder.list("video") == ["old.png"]
    assert [path.rsplit("/", 1)[-1] for path in order] == ["000001.png", "000002.png", "frames.csv"]
    assert folder.list("video") == ["000001.png", "000002.png", "frames.csv"]


def test_a_renamed_file_has_only_its_new_name(folder):
    folder.write_bytes("new part.parquet", b"new")
    folder.write_bytes("manifest/part.parquet", b"old")
    folder.rename("new part.parquet", "manifest/part.parquet")
    assert folder.read_bytes("manifest/part.parquet") == b"new"
    assert [info.relpath for info in folder.files()] == ["manifest/part.parquet"]


def test_a_folder_reaches_another_process_as_it_is(folder, proxy):
    configure_storage(StorageConfig(endpoint_url=proxy.endpoint, attempts=2))
    try:
        sent = pickle.dumps(Folder(folder.uri()))
    finally:
        configure_storage(StorageConfig())
    with reached_by("http://127.0.0.1:9"):
        arrived = pickle.loads(sent)
        arrived.write_bytes("a", b"x")
        assert arrived.fs.retries == 1
    assert folder.read_bytes("a") == b"x"
