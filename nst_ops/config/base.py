"""Base classes of all configurations: strict sections that still know the former names of their keys."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict


class _Renamed(BaseModel):
    """Acceptance of the former names of keys."""

    renamed: ClassVar[dict[str, str]] = {}
    """Former name of each key that was renamed, with its present one; both are accepted."""

    @model_validator(mode="before")
    @classmethod
    def _rename(cls, values: Any) -> Any:
        return rename_keys(cls, values)


class StrictModel(_Renamed):
    """A section of a configuration in which an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class JobConfig(BaseSettings, _Renamed):
    """Base class of a job's configuration."""

    model_config = SettingsConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    epilog: ClassVar[str] = ""
    """Text of ``--help`` below the keys: examples and exit codes."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read only the file and the command line: no stray environment variable changes a run."""
        return (init_settings,)


def rename_keys(model: type[BaseModel], values: Any) -> Any:
    """Return ``values`` of ``model``, its sections included, with former names of keys replaced.

    Raises:
        ValueError: a key is given under both of its names.
    """
    if not isinstance(values, dict):
        return values
    former = former_names(model)
    present: dict[str, Any] = {}
    for given, value in values.items():
        key = str(former.get(given, given))
        if key != given and key in values:
            raise ValueError(f"'{given}' is the former name of '{key}': leave '{given}' out")
        section = section_of(model, key)
        present[key] = rename_keys(section, value) if section else value
    return present


def former_names(model: type[BaseModel]) -> dict[str, str]:
    """Return the former names of the keys of ``model``, with the present ones."""
    return model.renamed if issubclass(model, _Renamed) else {}


def section_of(model: type[BaseModel], key: str) -> type[BaseModel] | None:
    """Return the class of the section ``key`` of ``model``; None for a plain or an unknown key."""
    field = model.model_fields.get(key)
    kind = field.annotation if field else None
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None
