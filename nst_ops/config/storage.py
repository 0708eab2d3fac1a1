"""Access to remote folders, in any configuration."""

from __future__ import annotations

from pydantic import Field, PositiveFloat, PositiveInt

from nst_ops.config.base import StrictModel


class StorageConfig(StrictModel):
    """Access to remote folders. Credentials never stand here: the environment or a profile holds them."""

    endpoint_url: str | None = None
    """Address of an S3 server other than Amazon's. Default: AWS_ENDPOINT_URL, or else the profile's."""
    profile: str | None = None
    """Profile of ~/.aws/config and ~/.aws/credentials, on every machine. Default: AWS_PROFILE."""
    region: str | None = None
    """Region of the buckets. Default: AWS_DEFAULT_REGION, or else the profile's."""
    anonymous: list[str] = Field(default=[])
    """URIs below which files are read without credentials, such as s3://public-bucket."""
    attempts: PositiveInt = 8
    """Tries of one request that is throttled, reset or not answered, with growing random pauses."""
    timeout_s: PositiveFloat = 30.0
    """Seconds without an answer after which a request is given up and tried again."""
