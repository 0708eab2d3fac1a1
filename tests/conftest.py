"""What tests of several rooms share."""

from __future__ import annotations

from pathlib import Path

import pytest

REAL_DATA = Path(__file__).parents[2] / "shared" / "data"
"""Real files beside the repository, where somebody has put some; most tests do without."""


def real_files(folder: str) -> list[object]:
    """Parameters: every file of a folder of the real data, or one that is skipped."""
    files = sorted((REAL_DATA / folder).glob("*")) if (REAL_DATA / folder).is_dir() else []
    if not files:
        return [pytest.param(None, marks=pytest.mark.skip(reason=f"no {REAL_DATA / folder}"), id="none")]
    return [pytest.param(path, id=path.name) for path in files]
