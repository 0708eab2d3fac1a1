"""A collection: its inputs, the plan, the manifest, the progress of a run, and the integrity of an output."""
