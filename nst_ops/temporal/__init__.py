"""Temporal consistency: scene cuts, optical flow, smoothing, and its metrics."""
