"""The two errors that end a command with one line instead of a traceback, and how that line is shown."""

import re

_COMMANDS = re.compile("[\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f\\u202a-\\u202e\\u2066-\\u2069\\ud800-\\udfff]")


class ConfigError(ValueError):
    """A configuration, input or output that cannot be run; the message is for a person. Exit code 2."""


class FatalError(RuntimeError):
    """A run that cannot go on; the message says why and what to do. What is finished stays. Exit code 1."""


def for_terminal(text: str) -> str:
    """Return a text with what a terminal takes for commands as visible escapes: names of files come from anywhere."""
    return _COMMANDS.sub(lambda found: found[0].encode("unicode_escape").decode(), text)
