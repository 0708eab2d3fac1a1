"""nst-ops: restyle whole image and video collections, and account for every file."""
