"""The pipeline: a run from its configuration to its report, the worker, and the executors."""
