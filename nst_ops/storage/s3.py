"""Buckets of S3: few requests, tried again, and errors that name the remedy."""

# ruff: noqa: D102, a method without a docstring is described in ``Folder``

from __future__ import annotations

import contextlib
import errno
import itertools
import logging
import math
import random
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
from aiobotocore.response import AioReadTimeoutError
from botocore import exceptions as boto
from botocore.exceptions import BotoCoreError, ClientError

from nst_ops.storage.base import Enters, FileInfo, Links, StorageError, StorageFullError, StorageUnavailableError
from nst_ops.storage.remote import RemoteTree, file_info

_log = logging.getLogger(__name__)
_PART_BYTES = 16 * 2**20
_MAX_PARTS = 10_000
_STREAMS = 4  # parts of an upload that are in memory and on their way at once
_KEYS_PER_REQUEST = 1000
_VERSION_ID = "?versionId="  # what follows it in a key s3fs takes for the version of another object
_NO_KEY = f"its key holds '{_VERSION_ID}', which would name another object: rename it"

_CLOCK = "this machine's clock is wrong: set it, by NTP"
_EXPIRED = "the credentials have expired: get new ones, and run the same command again"
_ELSEWHERE = "the bucket lies in another region: set storage.region, or AWS_DEFAULT_REGION"
_REMEDIES = {
    "RequestTimeTooSkewed": _CLOCK,
    "RequestExpired": _CLOCK,
    "ExpiredToken": _EXPIRED,
    "TokenRefreshRequired": _EXPIRED,
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
# Codes below 500 of errors that tend to go away by themselves.
_TRANSIENT = {"SlowDown", "Throttling", "RequestTimeout", "RequestLimitExceeded", "IncompleteBody", "BadDigest"}
# Errors of an answer that began well and ended too early.
_CUT_OFF = (aiohttp.ClientPayloadError, AioReadTimeoutError, boto.ResponseStreamingError)


class S3Tree(RemoteTree):
    """A prefix of a bucket; what every method raises is said in ``Folder``."""

    def __init__(self, fs: Any, root: str) -> None:
        super().__init__(fs, root)
        # botocore tries requests again, with random pauses; s3fs on top would multiply the tries.
        fs.retries = 1
        self.attempts: int = fs.config_kwargs["retries"]["total_max_attempts"]

    def __reduce__(self) -> tuple[type[S3Tree], tuple[Any, str]]:
        return S3Tree, (self.fs, self.root)

    @contextlib.contextmanager
    def _errors(self, relpath: str, permission: str) -> Iterator[None]:
        """Name the file and the remedy in whatever s3fs and botocore raise; the request needs ``permission``."""
        try:
            yield
        except StorageError:
            raise
        except (OSError, BotoCoreError, ClientError, aiohttp.ClientError) as error:
            raise _translate(error, self.uri(relpath), permission, self.attempts) from error

    def _key(self, relpath: str) -> tuple[str, str]:
        bucket, key, _ = self.fs.split_path(self.path(relpath).rstrip("/"))
        return bucket, key

    def kind(self, relpath: str) -> str | None:
        with self._errors(relpath, "s3:ListBucket"):
            return super().kind(relpath)

    def file(self, relpath: str) -> FileInfo:
        with self._errors(relpath, "s3:GetObject"):
            return super().file(relpath)

    def files(self, links: Links, enters: Enters | None) -> Iterator[FileInfo]:
        bucket, _ = self._key("")  # of which a listing gives all keys, as it has no folders
        for page in self._pages(""):
            for entry in page.get("Contents", []):
                if not entry["Key"].endswith("/"):  # what some tools put where a folder begins
                    relpath = f"{bucket}/{entry['Key']}".removeprefix(f"{self.root}/")
                    info = file_info(relpath, {"ETag": entry["ETag"], "size": entry["Size"]})
                    yield replace(info, problem=_NO_KEY) if _VERSION_ID in relpath else info

    def names(self, relpath: str) -> Iterator[str]:
        for page in self._pages(relpath, Delimiter="/"):
            keys = [entry["Key"] for entry in page.get("Contents", [])]
            folders = [entry["Prefix"].rstrip("/") for entry in page.get("CommonPrefixes", [])]
            yield from (key.rsplit("/", 1)[-1] for key in keys + folders if not key.endswith("/"))

    def _pages(self, relpath: str, **arguments: Any) -> Iterator[dict[str, Any]]:
        """Yield the pages of a listing of a folder."""
        bucket, key = self._key(relpath)
        arguments |= {"Bucket": bucket, "Prefix": f"{key}/" if key else "", "MaxKeys": _KEYS_PER_REQUEST}
        while True:
            with self._errors(relpath, "s3:ListBucket"):
                page = self.fs.call_s3("list_objects_v2", **arguments)
            yield page
            if not page.get("IsTruncated"):
                return
            arguments["ContinuationToken"] = page["NextContinuationToken"]

    def read(self, relpath: str, start: int | None = None, end: int | None = None) -> bytes:
        """Read a file, or a part of it, by one request; begun again where the answer was cut off."""
        with self._errors(relpath, "s3:GetObject"):
            for attempt in range(1, self.attempts):
                try:
                    return super().read(relpath, start, end)
                except _CUT_OFF:
                    time.sleep(random.uniform(0, min(20.0, 0.1 * 2**attempt)))
            return super().read(relpath, start, end)

    def upload(self, path: Path, relpath: str) -> None:
        """Upload a file, a large one in parts that become a file together."""
        num_bytes = path.stat().st_size
        part_bytes = max(_PART_BYTES, math.ceil(num_bytes / _MAX_PARTS))
        parts = {"chunksize": part_bytes, "max_concurrency": _STREAMS}
        with self._errors(relpath, "s3:PutObject"):
            for _ in range(self.attempts):
                try:
                    self.fs.put_file(str(path), self.path(relpath), **parts)
                    break
                except FileNotFoundError as error:
                    # The last answer was lost, and asked again the server knows the upload no more.
                    if _code(error)[0] != "NoSuchUpload":
                        raise
        if num_bytes >= 2 * part_bytes and (there := self.file(relpath).num_bytes) != num_bytes:
            raise StorageUnavailableError(f"{self.uri(relpath)}: {there} of {num_bytes} bytes have arrived")

    def rename(self, source: str, target: str) -> None:
        with self._errors(target, "s3:GetObject and s3:PutObject"):
            self.fs.cp_file(self.path(source), self.path(target))
        self.remove_many([source])

    def remove(self, relpath: str) -> None:
        bucket, key = self._key(relpath)
        below = (entry["Key"] for page in self._pages(relpath) for entry in page.get("Contents", []))
        self._delete(bucket, itertools.chain([key], below))

    def remove_many(self, relpaths: Iterable[str]) -> None:
        bucket, _ = self._key("")
        self._delete(bucket, (self._key(relpath)[1] for relpath in relpaths))

    def _delete(self, bucket: str, keys: Iterable[str]) -> None:
        keys = iter(keys)
        while some := list(itertools.islice(keys, _KEYS_PER_REQUEST)):
            objects = {"Objects": [{"Key": key} for key in some], "Quiet": True}
            with self._errors("", "s3:DeleteObject"):
                answer = self.fs.call_s3("delete_objects", Bucket=bucket, Delete=objects)
            for error in answer.get("Errors", []):
                file, need = f"s3://{bucket}/{error['Key']}", "the credentials need s3:DeleteObject"
                raise StorageUnavailableError(f"{file} cannot be deleted ({error['Code']}): {need}")

    def remove_scratch(self) -> None:
        """Abort uploads in parts that killed runs have begun below the folder."""
        try:
            self._abort_uploads()
        except OSError as error:  # not every account may see them: they take space and harm nothing
            _log.warning("uploads that a killed run has left may still take space: %s", error)

    def _abort_uploads(self) -> None:
        bucket, key = self._key("")
        arguments: dict[str, Any] = {"Bucket": bucket, "Prefix": f"{key}/" if key else ""}
        while True:
            with self._errors("", "s3:ListBucketMultipartUploads"):
                page = self.fs.call_s3("list_multipart_uploads", **arguments)
            for upload in page.get("Uploads", []):
                upload = {"Bucket": bucket, "Key": upload["Key"], "UploadId": upload["UploadId"]}
                with self._errors("", "s3:AbortMultipartUpload"), contextlib.suppress(FileNotFoundError):
                    self.fs.call_s3("abort_multipart_upload", **upload)  # absent: its writer has finished it
            if not page.get("IsTruncated"):
                return
            arguments["KeyMarker"] = page["NextKeyMarker"]
            arguments["UploadIdMarker"] = page["NextUploadIdMarker"]


def _code(error: BaseException) -> tuple[str, int]:
    """Return S3's code and the HTTP status of the answer behind an error; empty and 0 if none came."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ClientError):
        cause = cause.__cause__
    if cause is None:
        return "", 0
    status = cause.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return str(cause.response.get("Error", {}).get("Code", "")), int(status)


def _translate(error: Exception, uri: str, permission: str, tries: int) -> Exception:
    """Return the error to raise instead: of one file that cannot be had, or of an unusable storage."""
    (code, status), name = _code(error), type(error).__name__
    if code in _FULL:
        return StorageFullError.of(uri)
    if code in _REMEDIES:
        return StorageUnavailableError(f"{uri}: {_REMEDIES[code]} ({code})")
    if code in _TRANSIENT or status >= 500:
        return StorageUnavailableError(
            f"{uri}: the server is overloaded or out of order, it still answers {code or status} after {tries} tries: "
            "run the same command again later"
        )
    if isinstance(error, PermissionError) or status in (401, 403):
        if permission == "s3:GetObject":
            return PermissionError(errno.EACCES, f"access denied, or no such file: reading needs {permission}", uri)
        return StorageUnavailableError(f"{uri}: access denied: the credentials need {permission}")
    if isinstance(error, FileNotFoundError):
        return FileNotFoundError(errno.ENOENT, "no such file", uri)
    if status:
        return OSError(errno.EIO, f"the server refuses it ({code or status})", uri)
    # From here on no server has answered.
    if isinstance(error, boto.ParamValidationError):
        return FileNotFoundError(errno.ENOENT, "no valid name of a bucket and a file", uri)
    if isinstance(error, boto.ProfileNotFound):
        return StorageUnavailableError(f"{uri}: {error}: check storage.profile or AWS_PROFILE")
    if isinstance(error, boto.ConnectionError | boto.HTTPClientError | aiohttp.ClientError | TimeoutError):
        remedy = "check the network and the endpoint, and run the same command again"
        return StorageUnavailableError(f"{uri}: no answer after {tries} tries ({name}): {remedy}")
    if isinstance(error, BotoCoreError):
        return StorageUnavailableError(
            f"{uri}: no usable credentials ({name}): set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or "
            "storage.profile, or list a public bucket under storage.anonymous"
        )
    return error
