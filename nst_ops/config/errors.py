"""The two errors that end a command with one line instead of a traceback."""


class ConfigError(ValueError):
    """A configuration, input or output that cannot be run; the message is for a person. Exit code 2."""


class FatalError(RuntimeError):
    """A run that cannot go on; the message says why and what to do. What is finished stays. Exit code 1."""
