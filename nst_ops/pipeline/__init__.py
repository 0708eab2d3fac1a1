"""The pipeline: a run from its configuration to its report, the worker, and the executors."""

from nst_ops.config import FatalError
from nst_ops.pipeline.run import stylize_collection

__all__ = ["FatalError", "stylize_collection"]
