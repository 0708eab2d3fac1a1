"""Folders on any file system: list, read, and write all or nothing.

``Folder`` is what the rest of the program uses. It works on a ``Tree``: local, remote by fsspec, or S3.
Local files keep their plain absolute path as their URI; everything else has its scheme.
"""

from nst_ops.storage.base import FileInfo, StorageError, StorageFullError, StorageUnavailableError
from nst_ops.storage.folder import Folder, folder_and_name
from nst_ops.storage.names import NameRules
from nst_ops.storage.remote import configure_storage

__all__ = [
    "FileInfo",
    "Folder",
    "NameRules",
    "StorageError",
    "StorageFullError",
    "StorageUnavailableError",
    "configure_storage",
    "folder_and_name",
]
