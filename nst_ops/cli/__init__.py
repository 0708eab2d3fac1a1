"""The commands of `nst-ops`: parse, run, print, and an exit code."""
