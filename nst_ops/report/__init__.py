"""Pictures of a run: where people would rather look than read."""
