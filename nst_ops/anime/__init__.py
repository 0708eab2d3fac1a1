"""Faces to anime by drawing: landmarks, regions, anime proportions, shapes. ``drawing`` puts the stages together."""
