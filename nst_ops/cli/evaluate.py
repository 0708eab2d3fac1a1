"""The command ``nst-ops evaluate``: measure the outputs of a run."""

from __future__ import annotations

from nst_ops.config import EvaluateConfig
from nst_ops.evaluation.images import evaluate_images
from nst_ops.evaluation.videos import evaluate_videos
from nst_ops.report.text import console


def main(config: EvaluateConfig) -> int:
    """Measure the images of a run, or its videos; exit code 3 if some could not be read."""
    outcome = evaluate_videos(config) if config.temporal else evaluate_images(config)
    console().print(*outcome.tables)
    print(f"page: {outcome.page}")
    return outcome.exit_code
