"""The upload of ``ray job submit --working-dir``: a large folder is refused, with the remedy."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from nst_ops.config import ConfigError

LIMIT_MB = 50  # the code with its checkpoints is a third of it. Ray itself stops at 500 MB, and keeps it all in memory

_NUM_SHOWN = 3
_UPLOAD_PREFIX = "_ray_pkg_"  # beginning of the names of folders that Ray unpacks uploads into


def check_submission(
    *, working_dir: str | None, runtime_env: str | None, runtime_env_json: str | None, **_: Any
) -> None:
    """Check what ``ray job submit`` uploads if ``RAY_JOB_SUBMIT_HOOK`` names this; raises SystemExit if it is large."""
    from ray.dashboard.modules.dashboard_sdk import parse_runtime_env_args

    environment = parse_runtime_env_args(runtime_env, runtime_env_json, working_dir)
    folder = Path(environment.get("working_dir") or "")
    if environment.get("working_dir") and folder.is_dir():  # a URI is not uploaded
        try:
            _refuse_large(folder, files_to_upload(folder, environment.get("excludes") or []))
        except ConfigError as error:
            raise SystemExit(f"error: {error}") from error


def check_upload() -> None:
    """Check the upload that this job runs in, for those who submit without the hook; raises ConfigError if large."""
    folder = Path.cwd()
    if folder.name.startswith(_UPLOAD_PREFIX):
        _refuse_large(folder, (path for path in folder.rglob("*") if path.is_file()))


def files_to_upload(folder: Path, excludes: list[str]) -> list[Path]:
    """Return the files that Ray would pack: its own walk heeds .gitignore and .rayignore in every folder."""
    from ray._private.ray_constants import get_runtime_env_default_excludes
    from ray._private.runtime_env.packaging import _dir_travel, _get_excludes

    files: list[Path] = []
    matchers = [_get_excludes(folder, get_runtime_env_default_excludes() + excludes)]
    quiet = logging.Logger("quiet", logging.ERROR)
    with_gitignore = os.environ.get("RAY_RUNTIME_ENV_IGNORE_GITIGNORE", "0") != "1"
    _dir_travel(folder.absolute(), matchers, files.append, include_gitignore=with_gitignore, logger=quiet)
    return [path for path in files if path.is_file()]


def _refuse_large(folder: Path, files: Iterable[Path]) -> None:
    folder = folder.absolute()
    bytes_of: Counter[str] = Counter()
    for path in files:
        bytes_of[path.relative_to(folder).parts[0]] += path.stat().st_size
    total_mb = bytes_of.total() / 1e6
    if total_mb > LIMIT_MB:
        largest = ", ".join(f"{name} {size / 1e6:,.0f} MB" for name, size in bytes_of.most_common(_NUM_SHOWN))
        remedy = "name what no worker needs in .rayignore, or move it out of the folder"
        large = f"the upload is {total_mb:,.0f} MB, at most {LIMIT_MB} MB ({largest})"
        raise ConfigError(f"{large}: {remedy}; data and large checkpoints travel by URI")
