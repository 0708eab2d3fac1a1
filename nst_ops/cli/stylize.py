"""The command ``nst-ops stylize``: stylize a collection."""

from __future__ import annotations

from nst_ops.config import StylizeConfig
from nst_ops.pipeline import stylize_collection
from nst_ops.pipeline.executors.ray_upload import check_upload


def main(config: StylizeConfig) -> int:
    """Stylize a collection and print the summary; exit code 3 if some files failed."""
    check_upload()
    summary = stylize_collection(config)
    print(summary.table())
    return summary.exit_code
