"""Write docs/configuration.md from the configuration classes: `python docs/generate_configuration.py`."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel

import nst_ops.config
from nst_ops.cli import COMMANDS
from nst_ops.config.base import section_of

PAGE = Path(__file__).with_name("configuration.md")
_HEAD = """\
# Configuration

Every key of every command, generated from the classes in `nst_ops/config/` (`make docs`).

A key stands in a YAML file (`--config FILE`), section by section, or on the command line (`--video.crf 20`),
which wins over the file. Hyphens and underscores are the same in the names of options, a switch needs no
value (`--dry-run`, `--no-dry-run`), `null` unsets a value. An unknown key is an error that names the nearest
one. No environment variable changes a run, apart from the credentials and addresses of the storage.
"""
_BOUNDS = {"minimum": "≥ {}", "exclusiveMinimum": "> {}", "maximum": "≤ {}", "exclusiveMaximum": "< {}"}
_BOUNDS["multipleOf"] = "multiple of {}"


def main() -> None:
    """Write the page."""
    PAGE.write_text(page(), encoding="utf-8")


def page() -> str:
    """Return the page: a table for each section of each command, sections that were shown before as links."""
    lines, shown = [_HEAD], dict[type[BaseModel], str]()
    for command, (summary, class_name, *_) in COMMANDS.items():
        config = getattr(nst_ops.config, class_name)
        lines += [f"## nst-ops {command}", "", inspect.cleandoc(config.__doc__ or summary), ""]
        lines += _section(config, "", command, shown)
    return "\n".join(lines).rstrip() + "\n"


def _section(model: type[BaseModel], path: str, command: str, shown: dict[type[BaseModel], str]) -> list[str]:
    """Return the lines of a section and of those in it."""
    properties = model.model_json_schema()["properties"]
    plain = [name for name in model.model_fields if not section_of(model, name)]
    lines = ["| key | type | default | meaning |", "|---|---|---|---|"] if plain else []
    required = {name for name, field in model.model_fields.items() if field.is_required()}
    for name in plain:
        key = model.model_fields[name].alias or name
        schema = properties[key]
        default = "required" if name in required else f"`{json.dumps(schema['default'])}`"
        cells = f"`{path}{key}`", _type(schema), default, schema.get("description", "")
        lines.append("| " + " | ".join(" ".join(cell.replace("|", "\\|").split()) for cell in cells) + " |")
    lines.append("")
    for name in model.model_fields:
        if section := section_of(model, name):
            title = f"### {command}: {path}{name}"
            lines += [title, ""]
            if section in shown:
                lines += [f"The same keys as [{shown[section]}](#{_anchor(shown[section])}).", ""]
                continue
            shown[section] = title.removeprefix("### ")
            lines += [inspect.cleandoc(section.__doc__ or ""), ""]
            lines += _section(section, f"{path}{name}.", command, shown)
    return lines


def _type(schema: dict[str, Any]) -> str:
    """Return the type of a key in words, with its choices or bounds."""
    if "anyOf" in schema:
        return " or ".join(_type(one) for one in schema["anyOf"])
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    kind = str(schema.get("type", "any"))
    if kind == "array":
        items = schema.get("prefixItems") or [schema.get("items", {})]
        kind = "list of " + (_type(items[0]))
    if kind == "object":
        values = schema.get("additionalProperties")
        kind = f"map to {_type(values)}" if isinstance(values, dict) else "map"
    bounds = [text.format(f"{schema[key]:g}") for key, text in _BOUNDS.items() if key in schema]
    return " ".join([kind, ", ".join(bounds)]).strip()


def _anchor(title: str) -> str:
    """Return the anchor that GitHub gives a heading."""
    return "".join(c for c in title.lower().replace(" ", "-") if c.isalnum() or c in "-_")


if __name__ == "__main__":
    main()
