"""The laboratory: measurements of speed, memory, scale and steadiness; not part of the package.

Run a script from the root of the repository, as ``python benchmarks/pipeline.py --help`` in the environment
of ``make setup``, or anywhere else as ``python -m benchmarks.pipeline --help``.
"""
