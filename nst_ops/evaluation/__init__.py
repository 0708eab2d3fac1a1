"""Evaluation of a finished run: distances to style and source, steadiness of videos, and pages about them."""
