"""Remote folders by fsspec: which file system a URI means, how it is reached, files read by ranges."""

# ruff: noqa: D102, a method without a docstring is described in ``Folder``, or in ``io.RawIOBase``

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import fsspec
from typing_extensions import Buffer

from nst_ops.config.errors import ConfigError
from nst_ops.config.storage import StorageConfig
from nst_ops.storage.base import Enters, FileInfo, Links, Tree, unlisted
from nst_ops.storage.names import NameRules, rules_of_bucket

S3_SCHEMES = ("s3", "s3a")
_ANONYMOUS: Any = {"s3": {"anon": True}, "s3a": {"anon": True}, "gs": {"token": "anon"}, "gcs": {"token": "anon"}}
# Parameters that make a URL a key to what it names.
_SIGNED = {"x-amz-signature", "x-amz-security-token", "x-goog-signature", "awsaccesskeyid", "sig"}
_DOWNLOAD_BLOCK_BYTES = 16 * 2**20
_DOWNLOAD_STREAMS = 4  # one stream of S3 carries some 50 to 90 MB/s

_config = StorageConfig()


def configure_storage(config: StorageConfig) -> None:
    """Set how this process reaches remote folders from now on; ConfigError if the server's address holds credentials.

    Each process of a cluster is told once.
    """
    global _config
    if config.endpoint_url is not None:
        _refuse_credentials(config.endpoint_url)
    _config = config


def connect(uri: str) -> tuple[fsspec.AbstractFileSystem, str]:
    """Return the file system of a remote URI, and the path that it knows the URI by.

    Raises ConfigError if the URI holds credentials, ValueError if no file system is known by that name.
    """
    _refuse_credentials(uri)
    scheme, _, path = uri.partition("://")
    path = path.rstrip("/")
    # No cached listings: other processes write into the same folders.
    options: dict[str, Any] = {"use_listings_cache": False}
    if any(f"{uri.rstrip('/')}/".startswith(f"{prefix.rstrip('/')}/") for prefix in _config.anonymous):
        options |= _ANONYMOUS.get(scheme, {})
    if scheme in S3_SCHEMES:  # '::' is only letters in a key
        return fsspec.filesystem(scheme, **options, **_s3_options()), path
    try:
        fs, root = fsspec.url_to_fs(f"{scheme}://{path}", **options)
    except ImportError as error:
        raise ValueError(f"cannot open '{uri}': {error}") from error
    return fs, root


def _s3_options() -> dict[str, Any]:
    retries = {"mode": "standard", "total_max_attempts": _config.attempts}
    timeouts = {"connect_timeout": min(_config.timeout_s, 10), "read_timeout": _config.timeout_s}
    # What stays unsaid is found by botocore: the environment, the profile, the role of the machine.
    named = {"endpoint_url": _config.endpoint_url, "profile": _config.profile}
    return {name: value for name, value in named.items() if value is not None} | {
        "client_kwargs": {"region_name": _config.region} if _config.region else {},
        "config_kwargs": {"retries": retries, **timeouts},
        "max_concurrency": 1,  # more asks for the size before every read
    }


def _refuse_credentials(uri: str) -> None:
    """Keep credentials out of all that names a URI, manifest and logs: ConfigError, whose message holds none."""
    for part in uri.split("::"):
        scheme, netloc, _, query, _ = urlsplit(part)
        user, at, _ = netloc.rpartition("@")
        is_s3_key = scheme in S3_SCHEMES and (at or ":" in netloc) and not netloc.startswith("arn:")
        is_signed = _SIGNED & {name.lower() for name, _ in parse_qsl(query)}
        if (at and ":" in user) or is_s3_key or is_signed:
            raise ConfigError(
                f"a {scheme}:// address holds credentials, which would end up in logs and manifests: give them by "
                "the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY) or storage.profile"
            )


@dataclass(frozen=True)
class RemoteFile:
    """A file of a remote folder, not downloaded."""

    name: str  # without folders
    num_bytes: int
    read_range: Callable[[int, int], bytes] = field(repr=False)  # from a start to before an end, in one request

    def download(self, path: str) -> None:
        """Write the whole file to a local path, in several streams."""

        def fetch(start: int) -> None:
            end = min(start + _DOWNLOAD_BLOCK_BYTES, self.num_bytes)
            os.pwrite(file.fileno(), self.read_range(start, end), start)

        with open(path, "wb") as file, ThreadPoolExecutor(_DOWNLOAD_STREAMS) as streams:
            for _ in streams.map(fetch, range(0, self.num_bytes, _DOWNLOAD_BLOCK_BYTES)):
                pass


class RangeReader(io.RawIOBase):
    """Turns reads into range requests; ``io.BufferedReader`` turns small reads into blocks."""

    def __init__(self, file: RemoteFile) -> None:
        self._file, self._position = file, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._file.num_bytes}[whence]
        if base + offset < 0:
            raise ValueError(f"seek to {base + offset}")
        self._position = base + offset
        return self._position

    def readinto(self, buffer: Buffer, /) -> int:
        view = memoryview(buffer).cast("B")
        end = min(self._position + len(view), self._file.num_bytes)
        if self._position >= end:
            return 0
        data = self._file.read_range(self._position, end)
        if len(data) != end - self._position:
            raise OSError(f"{self._file.name} has become shorter while it was read")
        view[: len(data)] = data
        self._position = end
        return len(data)


class RemoteTree(Tree):
    """A remote folder: files are written on this machine and appear when they are uploaded."""

    scratch = None

    def name_rules(self) -> NameRules:
        return rules_of_bucket(self.root)

    def uri(self, relpath: str) -> str:
        return str(self.fs.unstrip_protocol(self.path(relpath).rstrip("/")))

    def kind(self, relpath: str) -> str | None:
        try:  # not by ``fs.exists``, which takes any error for a no
            return str(self.fs.info(self.path(relpath).rstrip("/"))["type"])
        except FileNotFoundError:
            return None

    def file(self, relpath: str) -> FileInfo:
        return file_info(relpath, self.fs.info(self.path(relpath)))

    def files(self, links: Links, enters: Enters | None) -> Iterator[FileInfo]:
        del links  # there are none
        folders = [""] if self.kind("") else []
        while folders:
            folder = folders.pop()
            if folder and enters and not enters(folder):
                yield FileInfo(folder, 0, "")
                continue
            path = self.path(folder).rstrip("/")
            try:
                infos = self.fs.ls(path, detail=True)
            except FileNotFoundError:  # it has just gone
                if not folder:
                    raise
                continue
            except PermissionError as error:
                if not folder or enters is None:
                    raise
                yield unlisted(folder, error)
                continue
            for info in infos:
                if (name := info["name"].rstrip("/")) == path:
                    continue  # what some tools put where a folder begins
                relpath = folder + name.rsplit("/", 1)[-1]
                if info["type"] == "directory":
                    folders.append(f"{relpath}/")
                else:
                    yield file_info(relpath, info)

    def names(self, relpath: str) -> Iterator[str]:
        try:
            paths = self.fs.ls(self.path(relpath).rstrip("/"), detail=False)
        except FileNotFoundError:
            return
        yield from (path.rstrip("/").rsplit("/", 1)[-1] for path in paths)

    def read(self, relpath: str, start: int | None = None, end: int | None = None) -> bytes:
        return bytes(self.fs.cat_file(self.path(relpath), start=start, end=end))

    def place(self, temporary: Path, relpath: str) -> None:
        if not temporary.is_dir():
            self.upload(temporary, relpath)
            return
        self.remove(relpath)
        for path in sorted(temporary.iterdir()):
            self.upload(path, f"{relpath}/{path.name}")

    def upload(self, path: Path, relpath: str) -> None:
        """Upload a file; it appears whole or not at all."""
        self.fs.put_file(str(path), self.path(relpath))

    def rename(self, source: str, target: str) -> None:
        self.fs.cp_file(self.path(source), self.path(target))
        self.fs.rm_file(self.path(source))

    def remove(self, relpath: str) -> None:
        if self.kind(relpath) is not None:
            self.fs.rm(self.path(relpath), recursive=True)

    def remove_scratch(self) -> None:
        pass  # unfinished files lie in the temporary folders of the machines that wrote them


def file_info(relpath: str, info: dict[str, Any]) -> FileInfo:
    """Describe a file by what its file system says of it."""
    keys = ("ETag", "etag", "LastModified", "last_modified", "mtime", "created")
    version = next((str(info[key]) for key in keys if info.get(key)), "")
    return FileInfo(relpath, int(info.get("size") or 0), version.strip('"'))
