"""Names that somebody else chose, made into relative paths that stay inside a folder and that its disk takes.

Keys of buckets, entries of lists, members of shards and names of styles pass here before anything is written.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import posixpath
import re
import tempfile
import unicodedata
from dataclasses import dataclass, replace
from pathlib import Path

_NAME_BYTES = 255  # of nearly every disk; what is written to a bucket may be copied to one
_PATH_BYTES = 4096  # of a whole path
_KEY_BYTES = 1024  # of a key in a bucket
_OWN_BYTES = 64  # that the run itself appends to a path or puts before it: report/losses/, frames.csv
PROBE = ".nst-ops-"  # what the name of a folder begins with in which names are tried
_LONGEST_EXTENSION = 16
_HASH_DIGITS = 12

# Of Python and of RE2. An empty part is one of two slashes, or of one at the start or the end.
_ODD = r"(^|/)\.{0,2}(/|$)|[\x00-\x1f\x7f-\x9f\\]"
_DEVICE = r"(?i:con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³]|conin\$|conout\$) *(\.|/|$)"
_ODD_ON_WINDOWS = rf'{_ODD}|[<>:"|?*]|[. ](/|$)|(^|/){_DEVICE}'


@dataclass(frozen=True)
class NameRules:
    """What the storage of a folder takes as names; by default what the disks of Linux take."""

    name_bytes: int = _NAME_BYTES
    """Longest name of a file or folder."""
    path_bytes: int = _PATH_BYTES - 1024
    """Longest path below the folder."""
    folds: bool = False
    """Whether names that differ only in upper and lower case, or in the Unicode form of an é, are one file."""
    windows: bool = False
    """Whether names such as ``CON``, ``a?b`` and ``a.`` are refused."""

    @property
    def odd(self) -> str:
        """Regular expression of RE2 that finds something in every path that ``path`` changes, but for long ones."""
        return _ODD_ON_WINDOWS if self.windows else _ODD

    def path(self, name: str) -> str:
        """Return the relative path that stands for a name, with all extensions: itself where it is one, else its own.

        No part of it is empty, ``.`` or ``..``, none has control characters or backslashes, and none is too long. Two
        names never become one path: one that has to change gets a hash of the whole of it before its extension.
        """
        parts = [self._part(part) for part in safe_name(name).split("/") if part not in ("", ".")] or ["_"]
        if "/".join(parts) == name and self._fits(parts):
            return name
        folders, base = [_shortened(part, "", self.name_bytes) for part in parts[:-1]], parts[-1]
        longest = min(self.name_bytes, self.path_bytes)
        while folders and not self._fits([*folders, base[:1] * longest]):
            folders.pop()
        return "/".join([*folders, _shortened(base, name, longest)])

    def key(self, path: str) -> str:
        """Return what two paths have in common if they are one file on the disk."""
        return unicodedata.normalize("NFC", path).lower() if self.folds else path

    def below(self, folder: str) -> NameRules:
        """Return the rules for paths below a folder."""
        return replace(self, path_bytes=max(self.path_bytes - len(folder.encode()) - 1, _OWN_BYTES))

    def _fits(self, parts: list[str]) -> bool:
        lengths = [len(part.encode()) for part in parts]
        return max(lengths) <= self.name_bytes and sum(lengths) + len(parts) - 1 <= self.path_bytes

    def _part(self, part: str) -> str:
        if not self.windows:
            return part
        part = re.sub(r'[<>:"|?*]', "_", part).rstrip(". ") or "_"
        return f"_{part}" if re.match(_DEVICE, part) else part


ANY_DISK = NameRules()


def safe_name(name: str) -> str:
    r"""Make a relative path of a foreign name: no absolute path, no ``..``, no backslashes, no control characters."""
    if not name.isprintable() or "\\" in name:  # names without either are most, and shards have millions
        name = "".join("_" if unicodedata.category(c) in ("Cc", "Cs") or c == "\\" else c for c in name)
    parts = [part for part in name.split("/") if part != ".."]
    return "/".join(parts).lstrip("/") or "_"


def own_safe_name(name: str) -> str:
    """Make a relative path as ``safe_name`` does; two names never become one: what changes gets a hash of itself."""
    safe = safe_name(name)
    if safe == name:
        return name
    folder, base = posixpath.split(safe)
    return posixpath.join(folder, with_hash(base, name))


def with_hash(base: str, whole: str) -> str:
    """Put a hash of the ``whole`` before the extension of a file's name."""
    return _shortened(base, whole, _NAME_BYTES)


def leads_out(relpath: str) -> bool:
    """Return whether a path leads out of the folder that it begins in."""
    return relpath.startswith("/") or ".." in relpath.split("/")


def rules_of_disk(path: str) -> NameRules:
    """Try in a scratch folder which names a disk takes: the one that ``path``, which need not exist, will lie on."""
    place = Path(path)
    while not place.is_dir() and place != place.parent:
        place = place.parent
    path_bytes = _limit(place, "PC_PATH_MAX", _PATH_BYTES) - len(os.fsencode(path)) - _OWN_BYTES
    # FAT counts UTF-16 units and claims six bytes for each.
    rules = NameRules(_limit(place, "PC_NAME_MAX", _NAME_BYTES), max(path_bytes, _NAME_BYTES))
    with contextlib.suppress(OSError), tempfile.TemporaryDirectory(prefix=PROBE, dir=place) as scratch:
        Path(scratch, "é").touch()
        folds = any(Path(scratch, other).exists() for other in ("É", "e\u0301"))
        return replace(rules, folds=folds, windows=not _takes(scratch, ["a?b", "c."]))
    return rules


def rules_of_bucket(prefix: str) -> NameRules:
    """Return the rules for keys that begin with a prefix."""
    return NameRules(path_bytes=max(_KEY_BYTES - len(prefix.encode()) - _OWN_BYTES, _NAME_BYTES))


def _limit(place: Path, name: str, most: int) -> int:
    with contextlib.suppress(OSError, ValueError):
        if (limit := os.pathconf(place, name)) > 0:  # else the file system does not say
            return min(limit, most)
    return most


def _takes(folder: str, names: list[str]) -> bool:
    with contextlib.suppress(OSError):
        for name in names:
            Path(folder, name).touch()
        return set(names) <= set(os.listdir(folder))
    return False


def _shortened(part: str, whole: str, longest: int) -> str:
    """Put a hash of the ``whole`` before the extension of a file's name, or of a folder's own into a long one's."""
    if not whole and len(part.encode()) <= longest:
        return part
    stem, extension = posixpath.splitext(part) if whole else (part, "")
    if len(extension.encode()) > _LONGEST_EXTENSION:
        stem, extension = part, ""
    digest = hashlib.sha256((whole or part).encode(errors="surrogatepass")).hexdigest()[:_HASH_DIGITS]
    end = f"~{digest}{extension}"
    return stem.encode()[: longest - len(end.encode())].decode(errors="ignore") + end
