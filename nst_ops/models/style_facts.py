"""What a checkpoint of many styles says of each: whose painting it is, who may use it, a thumbnail. Needs no torch."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

STYLES = "styles"
"""Key of the styles among the facts of a checkpoint."""

IDENTITY = "identity"
"""Name of the row that gives back the photograph, as far as the network can. It is no style to choose at random."""
MOST_THUMBNAIL_BYTES = 16 * 1024
"""Bytes of a thumbnail at most: a JPEG of about 96 pixels takes 4 kB."""
MOST_LETTERS = 2_000
"""Letters of each text at most."""

_NAME = re.compile(r"[\w-]{1,60}")
_JPEG = b"\xff\xd8\xff"


@dataclass(frozen=True)
class StyleFacts:
    """What is known of a style; texts are plain and may be empty. Raises ValueError for what is too long or no JPEG."""

    title: str = ""
    artist: str = ""
    source: str = ""
    """Where the style image comes from: a place, a collection, a URL."""
    license: str = ""
    """License of the style image and of the row, in words."""
    thumbnail: bytes = b""
    """Style image as a small JPEG, or empty."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name == "thumbnail":
                if value and not (value.startswith(_JPEG) and len(value) <= MOST_THUMBNAIL_BYTES):
                    raise ValueError(f"a thumbnail is a JPEG of at most {MOST_THUMBNAIL_BYTES:,} bytes")
            elif not isinstance(value, str) or len(value) > MOST_LETTERS:
                raise ValueError(f"{field.name} of a style is a text of at most {MOST_LETTERS:,} letters")


def check_style_name(name: object) -> None:
    """Raise ValueError for a name of a style that cannot be a folder's: letters, digits, - and _, at most 60."""
    if not (isinstance(name, str) and _NAME.fullmatch(name)):
        raise ValueError(f"{name!r} cannot be the name of a style: take up to 60 letters, digits, - and _")


def style_name(text: str) -> str:
    """Return a name of a style made of any text, such as the stem of a file."""
    return re.sub(r"[^\w-]+", "_", text).strip("_-")[:60].lower() or "style"


def styles_to_json(styles: Mapping[str, StyleFacts]) -> dict[str, dict[str, str]]:
    """Return the styles as ``facts`` hold them: by name, thumbnails in base64, without what is empty."""

    def plain(value: str | bytes) -> str:
        return base64.b64encode(value).decode() if isinstance(value, bytes) else value

    return {
        name: {key: plain(value) for key, value in asdict(facts).items() if value} for name, facts in styles.items()
    }


def styles_from_json(styles: Any) -> dict[str, StyleFacts]:
    """Return the styles of ``facts``; raises TypeError or ValueError for what is none. Unknown keys are left out."""
    known = {field.name for field in fields(StyleFacts)}
    found = {}
    for name, facts in dict(styles).items():
        check_style_name(name)
        values = {key: value for key, value in dict(facts).items() if key in known}
        if "thumbnail" in values:
            values["thumbnail"] = base64.b64decode(values["thumbnail"], validate=True)
        found[name] = StyleFacts(**values)
    return found
