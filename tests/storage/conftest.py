"""One bucket for all tests of the storage; each has a prefix of its own."""

import uuid

import pytest
from s3_server import S3Server


@pytest.fixture(scope="session")
def bucket(s3: S3Server) -> str:
    """Its URI."""
    return s3.new_bucket()


@pytest.fixture
def prefix(bucket: str) -> str:
    """The URI of an empty prefix."""
    return f"{bucket}/{uuid.uuid4().hex[:8]}"
