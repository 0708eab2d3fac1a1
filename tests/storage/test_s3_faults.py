"""Random failures are tried again; lasting ones name the cause and leave nothing behind."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fault_proxy import PASSING, FaultProxy
from s3_server import SECRET_KEY, S3Server, client, reached_by

from nst_ops.config.storage import StorageConfig
from nst_ops.storage import Folder, StorageError, StorageUnavailableError, configure_storage

pytestmark = pytest.mark.s3


@pytest.fixture(autouse=True)
def _small_and_few(monkeypatch) -> Iterator[None]:
    """Small parts, few tries, and short pauses between them."""
    monkeypatch.setattr("nst_ops.storage.s3._PART_BYTES", 50_000)
    monkeypatch.setattr("nst_ops.storage.remote._DOWNLOAD_BLOCK_BYTES", 50_000)
    monkeypatch.setattr("botocore.retries.standard.ExponentialBackoff._BASE", 1.2)
    configure_storage(StorageConfig(attempts=3))
    yield
    configure_storage(StorageConfig())


def unfinished(s3: S3Server, folder: Folder) -> list[str]:
    bucket, _, prefix = folder.root.partition("/")
    page = client(s3.endpoint).call_s3("list_multipart_uploads", Bucket=bucket, Prefix=prefix)
    return [upload["Key"] for upload in page.get("Uploads", [])]


def test_random_failures_are_tried_again(s3, prefix):
    configure_storage(StorageConfig(attempts=8))
    words, large = [b"word" * number for number in range(8)], os.urandom(480_000)
    with FaultProxy(s3.endpoint, share=0.2, seed=3) as proxy, reached_by(proxy.endpoint):
        folder = Folder(prefix)
        for number, data in enumerate(words):
            folder.write_bytes(f"{number}.txt", data)
        assert [folder.read_bytes(f"{number}.txt") for number in range(8)] == words
        folder.write_bytes("large", large)
        with folder.local_copy("large") as path:
            assert Path(path).read_bytes() == large
        assert len(list(folder.files())) == 9
        folder.remove_many([f"{number}.txt" for number in range(8)])
        assert folder.list() == ["large"]
        assert set(proxy.faults) == set(PASSING)
        assert unfinished(s3, folder) == []


def test_an_upload_whose_last_answer_is_lost_is_there(s3, prefix):
    lost = iter(["lost"])

    def rule(operation: str, path: str) -> str | None:
        return next(lost, None) if operation == "POST" and "uploadId" in path else None

    with FaultProxy(s3.endpoint, rule=rule) as proxy, reached_by(proxy.endpoint):
        folder, data = Folder(prefix), os.urandom(200_000)
        folder.write_bytes("a.mp4", data)
        assert proxy.faults == {"lost": 1}
        assert folder.read_bytes("a.mp4") == data
        assert unfinished(s3, folder) == []


def test_a_request_without_an_answer_is_made_again(s3, prefix):
    hang = iter(["hang"])
    configure_storage(StorageConfig(attempts=3, timeout_s=0.5))
    with FaultProxy(s3.endpoint) as proxy, reached_by(proxy.endpoint):
        folder = Folder(prefix)
        folder.write_bytes("a", b"words")
        proxy.rule = lambda *_: next(hang, None)
        assert folder.read_bytes("a") == b"words"
        assert proxy.faults == {"hang": 1}


def test_a_failed_upload_leaves_nothing(s3, prefix):
    def third_part(operation: str, path: str) -> str | None:
        return "internal_error" if operation == "PUT" and "partNumber=3" in path else None

    with FaultProxy(s3.endpoint, rule=third_part) as proxy, reached_by(proxy.endpoint):
        folder = Folder(prefix)
        with pytest.raises(StorageUnavailableError, match=r"a\.mp4: .*InternalError after 3 tries"):
            folder.write_bytes("a.mp4", os.urandom(300_000))
        assert not folder.exists("a.mp4")
        assert unfinished(s3, folder) == []


def test_a_denied_object_fails_one_file_only(s3, prefix):
    def rule(operation: str, path: str) -> str | None:
        return "denied" if operation == "GET" and path.endswith("/b.txt") else None

    with FaultProxy(s3.endpoint, rule=rule) as proxy, reached_by(proxy.endpoint):
        folder = Folder(prefix)
        for name in ("a.txt", "b.txt"):
            folder.write_bytes(name, b"words")
        with pytest.raises(PermissionError, match=r"s3:GetObject.*/b\.txt") as denial:
            folder.read_bytes("b.txt")
        assert not isinstance(denial.value, StorageError)
        assert folder.read_bytes("a.txt") == b"words"
        with pytest.raises(FileNotFoundError, match=r"/c\.txt"):
            folder.read_bytes("c.txt")


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("slow_down", "overloaded or out of order.*SlowDown after 3 tries"),
        ("reset", "no answer after 3 tries.*check the network"),
        ("cut", "no answer after 3 tries"),
        ("expired", "credentials have expired"),
        ("skewed", "this machine's clock is wrong"),
    ],
)
def test_errors_of_the_storage_name_the_remedy(s3, prefix, fault, reason):
    with FaultProxy(s3.endpoint) as proxy, reached_by(proxy.endpoint):
        folder = Folder(prefix)
        folder.write_bytes("a.txt", b"words")
        proxy.rule = lambda *_: fault
        with pytest.raises(StorageUnavailableError, match=reason) as refusal:
            folder.read_bytes("a.txt")
        assert folder.uri("a.txt") in str(refusal.value)


@pytest.mark.parametrize(
    ("variables", "reason"),
    [
        ({"AWS_SECRET_ACCESS_KEY": "hush"}, "secret key is wrong"),
        ({"AWS_ACCESS_KEY_ID": "hush:hush"}, "does not know the access key|secret key is wrong"),
    ],
)
def test_wrong_credentials_are_named_but_not_shown(s3, prefix, variables: dict[str, str], reason: str):
    uses: list[Callable[[Folder], object]] = [
        lambda folder: folder.read_bytes("a"),
        lambda folder: folder.write_bytes("a", b"x"),
        lambda folder: list(folder.files()),
    ]
    with reached_by(s3.endpoint, **variables):
        for use in uses:
            with pytest.raises(StorageUnavailableError, match=reason) as refusal:
                use(Folder(prefix))
            assert "hush" not in str(refusal.value)
            assert SECRET_KEY not in str(refusal.value)


def test_a_denied_output_is_an_error_of_the_storage(s3, prefix):
    with FaultProxy(s3.endpoint) as proxy, reached_by(proxy.endpoint):
        folder = Folder(prefix)
        proxy.rule = lambda operation, _: "denied" if operation == "PUT" else None
        with pytest.raises(StorageUnavailableError, match="credentials need s3:PutObject"):
            folder.write_bytes("a", b"x")
        assert folder.is_empty()


def test_a_missing_bucket_or_server_names_the_remedy(s3):
    with reached_by(s3.endpoint):
        for use in (lambda folder: folder.write_bytes("a", b"x"), lambda folder: folder.read_bytes("a")):
            with pytest.raises(StorageUnavailableError, match="no such bucket: make it"):
                use(Folder("s3://nobody-has-made-it/out"))
    with reached_by("http://127.0.0.1:9"), pytest.raises(StorageUnavailableError, match="check the network"):
        Folder("s3://bucket/out").is_empty()


def test_anonymous_requests_carry_no_credentials(s3, prefix):
    with FaultProxy(s3.endpoint) as proxy, reached_by(proxy.endpoint):
        Folder(prefix).write_bytes("a", b"x")
        assert proxy.num_unsigned == 0
        configure_storage(StorageConfig(anonymous=[prefix]))
        with pytest.raises(OSError, match=prefix):  # this server lets nobody in without credentials
            Folder(prefix).read_bytes("a")
        assert proxy.num_unsigned == 1
