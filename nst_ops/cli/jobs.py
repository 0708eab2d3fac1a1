"""The commands that do work: ``nst-ops stylize``, the trainings, ``fit-style`` and ``evaluate``."""

from __future__ import annotations

from nst_ops.config import EvaluateConfig, FitStyleConfig, StylizeConfig, TrainingConfig, TrainJohnsonConfig


def stylize(config: StylizeConfig) -> int:
    """Stylize a collection and print the summary; exit code 3 if some files failed."""
    from nst_ops.pipeline.executors.ray_upload import check_upload
    from nst_ops.pipeline.run import stylize_collection

    check_upload()
    summary = stylize_collection(config)
    print(summary.table())
    return summary.exit_code


def train(config: TrainingConfig) -> int:
    """Train a network, or with ``--sweep`` try several weights of its loss."""
    if isinstance(config, TrainJohnsonConfig) and config.sweep:
        from nst_ops.training.sweep import sweep

        result = sweep(config)
        print(result.table())
        return result.exit_code
    from nst_ops.training import describe_outcome, train_network

    print(describe_outcome(config.output, train_network(config)))
    return 0


def fit(config: FitStyleConfig) -> int:
    """Fit styles of paintings; exit code 3 if some failed."""
    from nst_ops.training.fit_styles import fit_styles

    outcome = fit_styles(config)
    print(outcome.describe())
    return 3 if outcome.failed else 0


def evaluate(config: EvaluateConfig) -> int:
    """Measure the images of a run, or its videos; exit code 3 if some could not be read."""
    from nst_ops.evaluation.images import evaluate_images
    from nst_ops.evaluation.videos import evaluate_videos
    from nst_ops.report.text import console

    outcome = evaluate_videos(config) if config.temporal else evaluate_images(config)
    console().print(*outcome.tables)
    print(f"page: {outcome.page}")
    return outcome.exit_code
