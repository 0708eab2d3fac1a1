"""Parsing of ``--config FILE`` and ``--a.b value`` overrides into a configuration.

A key that does not exist, a missing path or a wrong type is one clear line on standard error and exit code 2,
never a traceback and never a default in silence.
"""

from __future__ import annotations

import argparse
import difflib
import inspect
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_settings import CliSettingsSource

from nst_ops.config.base import JobConfig, former_names, rename_keys, section_of
from nst_ops.config.errors import ConfigError

ConfigT = TypeVar("ConfigT", bound=JobConfig)


def parse_config(
    config_class: type[ConfigT], argv: Sequence[str] | None = None, prog: str | None = None
) -> ConfigT:
    """Read ``--config FILE`` and ``--a.b value`` overrides into ``config_class``.

    Prints one line and exits with code 2 if anything does not fit; ``--help`` exits with 0.

    Args:
        config_class: the configuration.
        argv: arguments; default: those of the process.
        prog: name of the command in its help; default: that of the script.
    """
    argv = _normalize(sys.argv[1:] if argv is None else list(argv), config_class)
    parser = _Parser(
        prog=prog,
        description=inspect.cleandoc(config_class.__doc__ or ""),
        epilog=config_class.epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--config", metavar="FILE", help="YAML file with any of the keys below")
    cli: CliSettingsSource[Any] = CliSettingsSource(
        config_class,
        root_parser=parser,
        cli_implicit_flags=True,
        cli_use_class_docs_for_groups=True,
        cli_avoid_json=True,
        cli_hide_none_type=True,
        cli_parse_none_str="null",
    )
    positional = [str(action.metavar) for action in parser._actions if not action.option_strings]
    parser.usage = " ".join(["%(prog)s", *positional, "[--config FILE] [--KEY VALUE ...]"])
    for action in parser._actions:  # "Default: the source's own. (default: None)" says it twice
        action.help = (action.help or "").replace(" (default: None)", "").replace(" (default: [])", "")
    cli(args=argv)
    try:
        path = _config_path(argv)
        from_file = _read_yaml(Path(path), config_class) if path else {}
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
            for needed in _required(config_class, key):
                parts.append(f"'{needed}' is required: give --{needed} or put it into the file")
        else:
            what = item["msg"].removeprefix("Value error, ")
            given = "" if item["type"] == "value_error" else f" (got {item['input']!r})"
            parts.append((f"'{key}': {what[0].lower()}{what[1:]}" if key else what) + given)
    return "; ".join(parts)


def _required(config_class: type[BaseModel], key: str) -> list[str]:
    """Return ``key``, or if it is a section, the keys that must stand in it."""
    section: type[BaseModel] | None = config_class
    for name in key.split("."):
        section = section_of(section, name) if section else None
    if section is None:
        return [key]
    return [f"{key}.{name}" for name, field in section.model_fields.items() if field.is_required()]


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
    switches = {f"--{key}" for key, kind in _keys(config_class) if kind is bool}
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
        names.append(former_names(section).get(name, name))
        section = section_of(section, names[-1]) or BaseModel
    return ".".join(names)


def _switched(option: str, value: str) -> str | None:
    return {"true": option, "false": f"--no-{option[2:]}"}.get(value.lower())


def _config_path(argv: list[str]) -> str | None:
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--config")
    path: str | None = parser.parse_known_args(argv)[0].config
    return path


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


def _merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Return ``base`` with the values of ``over`` in the place of its own, section by section."""
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        merged[key] = _merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged


def _keys(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, object]]:
    """Yield every key of ``model`` as ``a.b``, sections included, with its type."""
    for name, info in model.model_fields.items():
        yield prefix + (info.alias or name), info.annotation
        if section := section_of(model, name):
            yield from _keys(section, f"{prefix}{name}.")
