"""Do the videos hold still? Of a finished run, and of every smoothing mode beside the others."""
