"""What an error of S3 means: one file that cannot be had, or a storage that cannot be used."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator

import aiohttp
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,
    HTTPClientError,
    ParamValidationError,
    ProfileNotFound,
)

from nst_ops.storage.errors import StorageError, StorageUnavailableError, full

_ELSEWHERE = "the bucket lies in another region: set storage.region, or AWS_DEFAULT_REGION"
_REMEDIES = {
    "RequestTimeTooSkewed": "this machine's clock is wrong: set it, by NTP",
    "RequestExpired": "this machine's clock is wrong: set it, by NTP",
    "ExpiredToken": "the credentials have expired: get new ones, and run the same command again",
    "TokenRefreshRequired": "the credentials have expired: get new ones, and run the same command again",
    "InvalidToken": "the session token is not valid: check AWS_SESSION_TOKEN",
    "InvalidAccessKeyId": "the server does not know the access key: check AWS_ACCESS_KEY_ID and the endpoint",
    "SignatureDoesNotMatch": "the secret key is wrong: check AWS_SECRET_ACCESS_KEY",
    "NoSuchBucket": "there is no such bucket: make it, or check its name, the endpoint and the account",
    "AllAccessDisabled": "the bucket is closed: ask its owner",
    "AccountProblem": "the account is closed: ask its owner",
    "AuthorizationHeaderMalformed": _ELSEWHERE,
    "IllegalLocationConstraintException": _ELSEWHERE,
    "PermanentRedirect": _ELSEWHERE,
    "301": _ELSEWHERE,
}
_FULL = {"QuotaExceeded", "XMinioStorageFull", "InsufficientStorage", "507"}
_PASSING = {"SlowDown", "Throttling", "RequestTimeout", "RequestLimitExceeded", "IncompleteBody", "BadDigest"}
"""Codes below 500 of what tends to go away by itself."""


@contextlib.contextmanager
def s3_errors(uri: str, permission: str, tries: int) -> Iterator[None]:
    """Name the file and the remedy in whatever s3fs and botocore raise within.

    Args:
        uri: of what is read or written.
        permission: that it needs, as ``s3:GetObject``.
        tries: that a request has had when it fails.

    Raises:
        PermissionError: this file may not be read.
        FileNotFoundError: there is no such file.
        StorageError: no file's fault.
    """
    try:
        yield
    except StorageError:
        raise
    except (OSError, BotoCoreError, ClientError, aiohttp.ClientError) as error:
        raise _translated(error, uri, permission, tries) from error


def error_code(error: BaseException) -> tuple[str, int]:
    """S3's code and the HTTP status of the answer behind an error; empty and 0 if none came."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ClientError):
        cause = cause.__cause__
    if cause is None:
        return "", 0
    status = cause.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return str(cause.response.get("Error", {}).get("Code", "")), int(status)


def _translated(error: Exception, uri: str, permission: str, tries: int) -> Exception:
    code, status = error_code(error)
    if code in _FULL:
        return full(uri)
    if code in _REMEDIES:
        return StorageUnavailableError(f"{uri}: {_REMEDIES[code]} ({code})")
    if code in _PASSING or status >= 500:
        return StorageUnavailableError(
            f"{uri}: the server is overloaded or out of order, it still answers {code or status} after "
            f"{tries} tries: run the same command again later"
        )
    if isinstance(error, PermissionError) or status in (401, 403):
        return _denied(uri, permission)
    if isinstance(error, FileNotFoundError):
        return FileNotFoundError(errno.ENOENT, "no such file", uri)
    if status:
        return OSError(errno.EIO, f"the server refuses it ({code or status})", uri)
    return _without_answer(error, uri, tries)


def _denied(uri: str, permission: str) -> OSError:
    if permission == "s3:GetObject":
        reason = f"access denied, or no such file: reading needs {permission}"
        return PermissionError(errno.EACCES, reason, uri)
    return StorageUnavailableError(f"{uri}: access denied: the credentials need {permission}")


def _without_answer(error: Exception, uri: str, tries: int) -> Exception:
    """The error of a request that no server has answered."""
    name = type(error).__name__
    if isinstance(error, ParamValidationError):
        return FileNotFoundError(errno.ENOENT, "no valid name of a bucket and a file", uri)
    if isinstance(error, ProfileNotFound):
        return StorageUnavailableError(f"{uri}: {error}: check storage.profile or AWS_PROFILE")
    if isinstance(error, ConnectionError | HTTPClientError | aiohttp.ClientError | TimeoutError):
        return StorageUnavailableError(
            f"{uri}: no answer after {tries} tries ({name}): check the network and the endpoint, and run "
            "the same command again"
        )
    if isinstance(error, BotoCoreError):
        return StorageUnavailableError(
            f"{uri}: no usable credentials ({name}): set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or "
            "storage.profile, or list a public bucket under storage.anonymous"
        )
    return error
