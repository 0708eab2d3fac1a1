"""Credentials never stand in what is logged and recorded, and what is public is read without any."""

from collections.abc import Iterator

import pytest

from nst_ops.config import ConfigError
from nst_ops.config.storage import StorageConfig
from nst_ops.storage import Folder, configure_storage


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    yield
    configure_storage(StorageConfig())


@pytest.mark.parametrize(
    "uri",
    [
        "s3://KEY:hush@bucket/a",
        "s3://KEY:hu/sh@bucket",
        "s3a://hush@bucket",
        "https://me:hush@host/a",
        "sftp://me:hush@host/a",
        "https://bucket.s3.amazonaws.com/a?X-Amz-Credential=me&X-Amz-Signature=hush",
        "https://account.blob.core.windows.net/a?sv=1&sig=hush",
        "simplecache::https://me:hush@host/a",
    ],
)
def test_a_uri_with_credentials_is_refused(uri):
    with pytest.raises(ConfigError, match="AWS_ACCESS_KEY_ID") as refusal:
        Folder(uri)
    assert "hush" not in str(refusal.value)


def test_an_endpoint_with_credentials_is_refused():
    with pytest.raises(ConfigError, match="holds credentials") as refusal:
        configure_storage(StorageConfig(endpoint_url="https://me:hush@host"))
    assert "hush" not in str(refusal.value)


def test_names_that_only_look_like_credentials_are_taken(tmp_path):
    assert Folder("s3://bucket/me:too@home?sig").root == "bucket/me:too@home?sig"
    assert Folder(str(tmp_path / "me:too@home")).root == str(tmp_path / "me:too@home")
    arn = "arn:aws:s3:us-east-1:123456789012:accesspoint/photos"
    assert Folder(f"s3://{arn}/a").root == f"{arn}/a"


def test_the_configuration_reaches_the_client():
    configure_storage(StorageConfig(endpoint_url="http://127.0.0.1:9", region="eu-north-1", attempts=3, timeout_s=7.0))
    client = Folder("s3://bucket/a").fs.connect()
    assert client.meta.endpoint_url == "http://127.0.0.1:9"
    assert client.meta.region_name == "eu-north-1"
    assert client.meta.config.retries == {"mode": "standard", "total_max_attempts": 3}
    assert client.meta.config.read_timeout == 7.0


def test_only_an_anonymous_prefix_is_read_without_credentials():
    configure_storage(StorageConfig(anonymous=["s3://public/photos"]))
    below = ("s3://public/photos", "s3://public/photos/", "s3://public/photos/2020")
    beside = ("s3://public/photos-of-mine", "s3://public", "s3://own")
    assert [Folder(uri).fs.anon for uri in below] == [True] * 3
    assert [Folder(uri).fs.anon for uri in beside] == [False] * 3
