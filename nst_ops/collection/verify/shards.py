"""The contents of shards: exactly the images that rows name, each as its row says."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from nst_ops.collection.verify.content import unreadable
from nst_ops.collection.verify.ledger import OutputFile, Shard
from nst_ops.collection.verify.problems import Kind, Problem
from nst_ops.media.errors import MediaError
from nst_ops.media.shards import open_shard
from nst_ops.storage import Folder, StorageError


def check_shard(output: Folder, image_column: str, shard: Shard) -> tuple[int, list[Problem]]:
    """Read a shard and compare the hash of every image in it; labels have none in the manifest.

    Returns:
        The bytes that were read, and what is wrong.
    """
    file = OutputFile(*shard.key, shard.place, shard.num_bytes, "")
    try:
        with output.local_copy(shard.place) as path:
            return shard.num_bytes, list(_problems(path, image_column, shard))
    except StorageError:
        raise
    except MediaError as error:
        return 0, [Problem(Kind.DAMAGED, shard.place, f"is {error}", shard.key)]
    except Exception as error:  # whatever the file system raises: the others are checked all the same
        return 0, [unreadable(file, error)]


def _problems(path: str, image_column: str, shard: Shard) -> Iterator[Problem]:
    missing = dict(shard.members)
    for sample in open_shard(path, image_column).samples():
        for picture in sample.pictures:
            what = f"{shard.place}#{picture.member}"
            member = missing.pop(picture.member, None)
            if member is None:
                yield Problem(Kind.DAMAGED, what, "is in the shard, but in no row", shard.key)
                continue
            found = hashlib.sha256(picture.data).hexdigest()
            if len(picture.data) != member.num_bytes or found != member.sha256:
                yield Problem(
                    Kind.DAMAGED, what, f"has SHA-256 {found}, its row says {member.sha256}", member.key
                )
    for name, member in missing.items():
        yield Problem(Kind.MISSING, f"{shard.place}#{name}", "is not in the shard", member.key)
