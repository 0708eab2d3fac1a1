"""Base classes of all configurations: strict sections that still know the former names of their keys."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


class StrictModel(BaseModel):
    """A section of a configuration: an unknown key is an error, the former name of a renamed one is not."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    renamed: ClassVar[dict[str, str]] = {}
    """Former name of each key that was renamed, with its present one; both are accepted."""

    @model_validator(mode="before")
    @classmethod
    def _rename(cls, values: Any) -> Any:
        return rename_keys(cls, values)


class JobConfig(BaseSettings, StrictModel):
    """Base class of a job's configuration."""

    model_config = SettingsConfigDict(
        cli_implicit_flags=True,
        cli_avoid_json=True,
        cli_hide_none_type=True,
        cli_parse_none_str="null",
        cli_use_class_docs_for_groups=True,
    )

    epilog: ClassVar[str] = ""
    """Text of ``--help`` below the keys, indented as the class is: examples and exit codes."""

    @classmethod
    def settings_customise_sources(cls, *_: Any, **sources: Any) -> tuple[Any, ...]:
        """Read only the file and the command line: no stray environment variable changes a run."""
        return (sources["init_settings"],)


def rename_keys(model: type[BaseModel], values: Any) -> Any:
    """Return ``values`` of ``model``, its sections included, with former names of keys replaced.

    Raises:
        ValueError: a key is given under both of its names.
    """
    if not isinstance(values, dict):
        return values
    former: dict[str, str] = getattr(model, "renamed", {})
    present: dict[str, Any] = {}
    for given, value in values.items():
        key = str(former.get(given, given))
        if key != given and key in values:
            raise ValueError(f"'{given}' is the former name of '{key}': leave '{given}' out")
        section = section_of(model, key)
        present[key] = rename_keys(section, value) if section else value
    return present


def section_of(model: type[BaseModel], key: str) -> type[BaseModel] | None:
    """Return the class of the section ``key`` of ``model``; None for a plain or an unknown key."""
    field = model.model_fields.get(key)
    kind = field.annotation if field else None
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None
