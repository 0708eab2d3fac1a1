"""Checks of an output against its manifest, from the outside: nothing missing, damaged, extra or twice."""

from nst_ops.collection.verify.check import NoRunError, UnreadableManifestError, verify

__all__ = ["NoRunError", "UnreadableManifestError", "verify"]
