"""Parsing of ``--config FILE`` and ``--a.b value`` overrides; what does not fit is one line and exit code 2."""

from __future__ import annotations

import argparse
import difflib
import inspect
import sys
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import yaml
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import CliSettingsSource, SettingsError

from nst_ops.config.base import JobConfig, rename_keys, section_of
from nst_ops.config.errors import ConfigError

ConfigT = TypeVar("ConfigT", bound=JobConfig)


def parse_config(config_class: type[ConfigT], argv: Sequence[str] | None = None, prog: str | None = None) -> ConfigT:
    """Read ``--config FILE`` and ``--a.b value`` overrides into ``config_class``.

    Prints one line and exits with code 2 if anything does not fit; ``--help`` exits with 0. ``argv`` and ``prog``
    are by default those of the process.
    """
    argv = _normalize(sys.argv[1:] if argv is None else list(argv), config_class)
    parser = _Parser(
        prog=prog,
        description=inspect.cleandoc(config_class.__doc__ or ""),
        epilog=textwrap.dedent(config_class.epilog),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--config", metavar="FILE", help="YAML file of any keys below; the command line wins")
    cli: CliSettingsSource[Any] = CliSettingsSource(config_class, root_parser=parser)
    positional = [str(action.metavar) for action in parser._actions if not action.option_strings]
    parser.usage = " ".join(["%(prog)s", *positional, "[--config FILE] [--KEY VALUE ...]"])
    for action in parser._actions:  # "Default: the source's own. (default: None)" says it twice
        action.help = (action.help or "").replace(" (default: None)", "").replace(" (default: [])", "")
    parsed = parser.parse_args(argv)
    try:
        cli(parsed_args=parsed)
    except SettingsError as error:  # a list or a mapping that is none
        key = str(error).removeprefix("Parsing error encountered for ").partition(":")[0]
        parser.error(f"'{key}' cannot be read: give values as a,b,c, and named ones as a=1,b=2")
    try:
        from_file = _read_yaml(Path(parsed.config), config_class) if parsed.config else {}
        return config_class(**_merge(from_file, cli()))
    except (ConfigError, ValidationError) as error:
        message = explain(error, config_class) if isinstance(error, ValidationError) else str(error)
        parser.error(message)


def explain(error: ValidationError, config_class: type[BaseModel]) -> str:
    """Return one line for a person: which key, what is wrong, and what was probably meant."""
    parts = []
    for item in error.errors(include_url=False):
        key = ".".join(str(part) for part in item["loc"])
        if item["type"] == "extra_forbidden":
            near = difflib.get_close_matches(key, [name for name, _ in _keys(config_class)], n=1, cutoff=0.6)
            parts.append(f"unknown key '{key}'" + (f", did you mean '{near[0]}'?" if near else ""))
        elif item["type"] == "missing":
            needed = [name for name, info in _keys(config_class) if name.startswith(f"{key}.") and info.is_required()]
            parts += [f"'{name}' is required: give --{name} or put it into the file" for name in needed or [key]]
        else:
            what = item["msg"].removeprefix("Value error, ")
            given = "" if item["type"] == "value_error" else f" (got {item['input']!r})"
            parts.append((f"'{key}': {what[0].lower()}{what[1:]}" if key else what) + given)
    return "; ".join(parts)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Exit with one line, and a suggestion for an option that does not exist."""
        if message.startswith("unrecognized arguments: "):
            wrong = message.removeprefix("unrecognized arguments: ").split()[0]
            near = difflib.get_close_matches(wrong, list(self._option_string_actions), n=1, cutoff=0.6)
            what = "unknown option" if wrong.startswith("-") else "unexpected argument"
            message = f"{what} '{wrong}'" + (f", did you mean '{near[0]}'?" if near else "; see --help")
        self.exit(2, f"error: {message}\n")


def _normalize(argv: list[str], config_class: type[BaseModel]) -> list[str]:
    """Spell options as the parser knows them: ``--dry-run=false`` becomes ``--no-dry_run``."""
    switches = {f"--{key}" for key, info in _keys(config_class) if info.annotation is bool}
    normal: list[str] = []
    for arg in argv:
        if arg.startswith("--") and arg != "--":
            prefix, head = ("--no-", arg[5:]) if arg.startswith("--no-") else ("--", arg[2:])
            head, equals, value = head.partition("=")
            option = prefix + _present_name(head.replace("-", "_"), config_class)
            if option in switches and equals:
                normal.append(_switched(option, value) or arg)
            else:
                normal.append(option + equals + value)
        elif normal and normal[-1] in switches and (switched := _switched(normal[-1], arg)):
            normal[-1] = switched
        else:
            normal.append(arg)
    return normal


def _present_name(key: str, config_class: type[BaseModel]) -> str:
    """Return the dotted ``key`` with every former name in it replaced."""
    names, section = [], config_class
    for name in key.split("."):
        names.append(getattr(section, "renamed", {}).get(name, name))
        section = section_of(section, names[-1]) or BaseModel
    return ".".join(names)


def _switched(option: str, value: str) -> str | None:
    return {"true": option, "false": f"--no-{option[2:]}"}.get(value.lower())


def _read_yaml(path: Path, config_class: type[BaseModel]) -> dict[str, Any]:
    try:
        loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"no configuration file at '{path}'; ready-made ones are in configs/") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read '{path}': {error}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"'{path}' is not valid YAML: {' '.join(str(error).split())}") from error
    if loaded is not None and not isinstance(loaded, dict):
        raise ConfigError(f"'{path}' must hold keys and values, not a {type(loaded).__name__}")
    try:
        return dict(rename_keys(config_class, loaded or {}))
    except ValueError as error:
        raise ConfigError(f"'{path}': {error}") from error


def _merge(base: Any, over: Any) -> Any:
    """Return ``over``, or of two sections ``base`` with the values of ``over`` in the place of its own."""
    if not (isinstance(base, dict) and isinstance(over, dict)):
        return over
    return base | {key: _merge(base.get(key), value) for key, value in over.items()}


def _keys(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Yield every key of ``model`` as ``a.b``, sections included."""
    for name, info in model.model_fields.items():
        yield prefix + (info.alias or name), info
        if section := section_of(model, name):
            yield from _keys(section, f"{prefix}{name}.")
