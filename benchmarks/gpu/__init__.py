"""Checks of ``gpu_acceptance.py``: what must be right on a GPU, and how fast it is."""
