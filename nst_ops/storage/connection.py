"""Which file system a URI means, and how it is reached."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl, urlsplit

import fsspec

from nst_ops.config.errors import ConfigError
from nst_ops.config.storage import StorageConfig

S3_SCHEMES = ("s3", "s3a")
_SIGNED = {"x-amz-signature", "x-amz-security-token", "x-goog-signature", "awsaccesskeyid", "sig"}
"""Parameters that make a URL a key to what it names."""
_ANONYMOUS: dict[str, dict[str, Any]] = {
    "s3": {"anon": True},
    "s3a": {"anon": True},
    "gs": {"token": "anon"},
    "gcs": {"token": "anon"},
}

_config = StorageConfig()


def configure_storage(config: StorageConfig) -> None:
    """How this process reaches remote folders from now on; each process of a cluster is told once.

    Raises:
        ConfigError: the address of the server holds credentials.
    """
    global _config
    if config.endpoint_url is not None:
        refuse_secrets(config.endpoint_url)
    _config = config


def connect(uri: str) -> tuple[fsspec.AbstractFileSystem, str]:
    """The file system of a remote URI, and the path that it knows the URI by.

    Raises:
        ConfigError: the URI holds credentials.
        ValueError: no file system is known by that name.
    """
    refuse_secrets(uri)
    scheme, _, path = uri.partition("://")
    path = path.rstrip("/")
    # No cached listings: other processes write into the same folders.
    options: dict[str, Any] = {"use_listings_cache": False}
    if any(_lies_in(uri, prefix) for prefix in _config.anonymous):
        options |= _ANONYMOUS.get(scheme, {})
    if scheme in S3_SCHEMES:  # '::' is only letters in a key
        return fsspec.filesystem(scheme, **options, **_s3_options(_config)), path
    try:
        fs, root = fsspec.url_to_fs(f"{scheme}://{path}", **options)
    except ImportError as error:
        raise ValueError(f"cannot open '{uri}': {error}") from error
    return fs, root


def refuse_secrets(uri: str) -> None:
    """Keep credentials out of everything that names a URI: the manifest, ``run.json``, logs.

    Raises:
        ConfigError: the URI holds some; the message does not.
    """
    for part in uri.split("::"):
        scheme, netloc, _, query, _ = urlsplit(part)
        user, at, _ = netloc.rpartition("@")
        in_name = (at and ":" in user) or (
            scheme in S3_SCHEMES and (at or ":" in netloc) and not netloc.startswith("arn:")
        )
        if in_name or _SIGNED & {name.lower() for name, _ in parse_qsl(query)}:
            raise ConfigError(
                f"a {scheme}:// address holds credentials, which would end up in logs and manifests: give "
                "them by the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY) or storage.profile"
            )


def _lies_in(uri: str, prefix: str) -> bool:
    return f"{uri.rstrip('/')}/".startswith(f"{prefix.rstrip('/')}/")


def _s3_options(config: StorageConfig) -> dict[str, Any]:
    # What stays unsaid is found by botocore: the environment, the profile, the role of the machine.
    named = {"endpoint_url": config.endpoint_url, "profile": config.profile}
    return {
        **{name: value for name, value in named.items() if value is not None},
        "client_kwargs": {"region_name": config.region} if config.region else {},
        "config_kwargs": {
            "retries": {"mode": "standard", "total_max_attempts": config.attempts},
            "connect_timeout": min(config.timeout_s, 10),
            "read_timeout": config.timeout_s,
        },
        "max_concurrency": 1,  # more asks for the size before every read
    }
