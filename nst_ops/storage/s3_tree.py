"""Files in a bucket: as few requests as there can be, each tried again when it fails."""

from __future__ import annotations

import contextlib
import itertools
import logging
import math
import random
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
from aiobotocore.response import AioReadTimeoutError
from botocore.exceptions import ResponseStreamingError

from nst_ops.storage.errors import StorageUnavailableError
from nst_ops.storage.remote_tree import RemoteTree, file_info
from nst_ops.storage.s3_errors import error_code, s3_errors
from nst_ops.storage.tree import FileInfo

_log = logging.getLogger(__name__)
_CUT_OFF = (aiohttp.ClientPayloadError, AioReadTimeoutError, ResponseStreamingError)
"""An answer that began well and ended too early."""
_PART_BYTES = 16 * 2**20
_MAX_PARTS = 10_000
_STREAMS = 4
"""Parts of an upload that are in memory and on their way at once."""
_KEYS_PER_REQUEST = 1000


class S3Tree(RemoteTree):
    """A prefix of a bucket."""

    def __init__(self, fs: Any, root: str) -> None:
        super().__init__(fs, root)
        # botocore tries requests again, with random pauses; s3fs on top would multiply the tries.
        fs.retries = 1
        self.attempts: int = fs.config_kwargs["retries"]["total_max_attempts"]

    def __reduce__(self) -> tuple[type[S3Tree], tuple[Any, str]]:
        return S3Tree, (self.fs, self.root)

    def _errors(self, relpath: str, permission: str) -> contextlib.AbstractContextManager[None]:
        return s3_errors(self.uri(relpath), permission, self.attempts)

    def _key(self, relpath: str) -> tuple[str, str]:
        bucket, key, _ = self.fs.split_path(self.path(relpath).rstrip("/"))
        return bucket, key

    def _type(self, relpath: str) -> str | None:
        with self._errors(relpath, "s3:ListBucket"):
            return super()._type(relpath)

    def file(self, relpath: str) -> FileInfo:
        """One file, by one request."""
        with self._errors(relpath, "s3:GetObject"):
            return super().file(relpath)

    def files(self) -> Iterator[FileInfo]:
        """Every file, sorted by key, page after page."""
        bucket, _ = self._key("")
        for page in self._pages(""):
            for entry in page.get("Contents", []):
                if not entry["Key"].endswith("/"):  # what some tools put where a folder begins
                    relpath = f"{bucket}/{entry['Key']}".removeprefix(f"{self.root}/")
                    yield file_info(relpath, {"ETag": entry["ETag"], "size": entry["Size"]})

    def names(self, relpath: str) -> Iterator[str]:
        """Names in one folder, page after page."""
        for page in self._pages(relpath, Delimiter="/"):
            keys = [entry["Key"] for entry in page.get("Contents", [])]
            folders = [entry["Prefix"].rstrip("/") for entry in page.get("CommonPrefixes", [])]
            yield from (key.rsplit("/", 1)[-1] for key in keys + folders if not key.endswith("/"))

    def _pages(self, relpath: str, **arguments: Any) -> Iterator[dict[str, Any]]:
        """The pages of a listing of a folder."""
        bucket, key = self._key(relpath)
        arguments |= {
            "Bucket": bucket,
            "Prefix": f"{key}/" if key else "",
            "MaxKeys": _KEYS_PER_REQUEST,
        }
        while True:
            with self._errors(relpath, "s3:ListBucket"):
                page = self.fs.call_s3("list_objects_v2", **arguments)
            yield page
            if not page.get("IsTruncated"):
                return
            arguments["ContinuationToken"] = page["NextContinuationToken"]

    def read(self, relpath: str, start: int | None = None, end: int | None = None) -> bytes:
        """The file, or a part of it, by one request; begun again where the answer was cut off."""
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
        with self._errors(relpath, "s3:PutObject"):
            for _ in range(self.attempts):
                try:
                    self.fs.put_file(
                        str(path), self.path(relpath), chunksize=part_bytes, max_concurrency=_STREAMS
                    )
                    break
                except FileNotFoundError as error:
                    # The last answer was lost, and asked again the server knows the upload no more.
                    if error_code(error)[0] != "NoSuchUpload":
                        raise
        if num_bytes >= 2 * part_bytes and (there := self.file(relpath).num_bytes) != num_bytes:
            raise StorageUnavailableError(f"{self.uri(relpath)}: {there} of {num_bytes} bytes have arrived")

    def publish(self, source: str, target: str) -> None:
        """Copy the file on the server and delete the old one."""
        with self._errors(target, "s3:GetObject and s3:PutObject"):
            self.fs.cp_file(self.path(source), self.path(target))
        self.remove_many([source])

    def remove(self, relpath: str) -> None:
        """Delete a file, and every file below it."""
        bucket, key = self._key(relpath)
        below = (entry["Key"] for page in self._pages(relpath) for entry in page.get("Contents", []))
        self._delete(bucket, itertools.chain([key], below))

    def remove_many(self, relpaths: Iterable[str]) -> None:
        """Delete files, 1,000 by one request."""
        bucket, _ = self._key("")
        self._delete(bucket, (self._key(relpath)[1] for relpath in relpaths))

    def _delete(self, bucket: str, keys: Iterable[str]) -> None:
        keys = iter(keys)
        while some := list(itertools.islice(keys, _KEYS_PER_REQUEST)):
            objects = {"Objects": [{"Key": key} for key in some], "Quiet": True}
            with self._errors("", "s3:DeleteObject"):
                answer = self.fs.call_s3("delete_objects", Bucket=bucket, Delete=objects)
            for error in answer.get("Errors", []):
                raise StorageUnavailableError(
                    f"s3://{bucket}/{error['Key']} cannot be deleted ({error['Code']}): "
                    "the credentials need s3:DeleteObject"
                )

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
                self._abort(bucket, upload["Key"], upload["UploadId"])
            if not page.get("IsTruncated"):
                return
            arguments["KeyMarker"] = page["NextKeyMarker"]
            arguments["UploadIdMarker"] = page["NextUploadIdMarker"]

    def _abort(self, bucket: str, key: str, upload_id: str) -> None:
        with (
            self._errors("", "s3:AbortMultipartUpload"),
            contextlib.suppress(FileNotFoundError),  # its writer was alive, and has finished it
        ):
            self.fs.call_s3("abort_multipart_upload", Bucket=bucket, Key=key, UploadId=upload_id)
