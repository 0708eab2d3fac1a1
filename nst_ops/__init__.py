"""Neural style transfer of whole image and video collections, accounted for file by file.

The Python interface is ``stylize_collection(StylizeConfig(input=..., output=...))``.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nst_ops.config import StylizeConfig
    from nst_ops.pipeline.run import stylize_collection

    __version__: str

__all__ = ["StylizeConfig", "__version__", "stylize_collection"]

_HOMES = {"StylizeConfig": "nst_ops.config", "stylize_collection": "nst_ops.pipeline.run"}


def __getattr__(name: str) -> Any:
    """Import what is asked for only then: torch takes seconds, ``import nst_ops`` should not."""
    if name == "__version__":
        from importlib.metadata import version

        return version("nst-ops")
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'nst_ops' has no attribute '{name}'")
