"""The documents name commands, keys and files that exist."""

import re
import shlex
from pathlib import Path

import pytest
from pydantic import BaseModel

from nst_ops import config
from nst_ops.cli import COMMANDS
from nst_ops.collection.manifest import SCHEMA
from nst_ops.config import parse_config

ROOT = Path(__file__).parents[1]
FOLDERS = ("", "docs", "cluster", "nst_ops/models/pretrained")
DOCUMENTS = sorted(path for folder in FOLDERS for path in (ROOT / folder).glob("*.md"))
CONFIGS = sorted(ROOT.glob("configs/*.yaml"))
CONFIGURATIONS = {name: getattr(config, command.config) for name, command in COMMANDS.items()}
FILES = {"model.safetensors"}
"""Names of files that read like keys."""


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def keys(model: type[BaseModel]) -> set[str]:
    """Return every key of a configuration, sections included, as ``a.b``."""
    found = set()
    for name, field in model.model_fields.items():
        is_section = isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
        found |= {name} | ({f"{name}.{key}" for key in keys(field.annotation)} if is_section else set())
    return found


def commands(path: Path) -> list[tuple[str, list[str]]]:
    """Return the subcommand and the arguments of every call of nst-ops in code blocks or comments."""
    text = path.read_text()
    if path.suffix == ".yaml":
        text = "\n".join(line[1:] for line in text.splitlines() if line.startswith("#"))
    else:
        fenced = re.findall(r"^ *```\w*\n(.*?)^ *```", text, re.MULTILINE | re.DOTALL)
        text = "\n".join([*fenced, *re.findall(r"^    nst-ops (?:.*\\\n)*.*", text, re.MULTILINE)])
    lines = re.sub(r"\\\n\s*", " ", text).splitlines()
    calls = [shlex.split(line, comments=True) for line in lines if line.strip().startswith("nst-ops ")]
    return [(words[1], words[2:]) for words in calls]


def anchors(path: Path) -> set[str]:
    """Return the anchors that GitHub gives to the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", [*DOCUMENTS, *CONFIGS], ids=name_of)
def test_every_command_is_one_that_nst_ops_accepts(path, monkeypatch):
    monkeypatch.chdir(ROOT)
    for command, arguments in commands(path):
        parse_config(CONFIGURATIONS[command], arguments)


def test_each_ready_made_configuration_says_how_to_run_it():
    assert [path.name for path in CONFIGS if path.name != "ablation.yaml" and not commands(path)] == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_every_link_leads_somewhere(path):
    for target in re.findall(r"\]\((?!https?:)([^)\s]+)\)", path.read_text()):
        file, _, anchor = target.partition("#")
        linked = (path.parent / file).resolve() if file else path
        assert linked.exists(), target
        assert not anchor or anchor in anchors(linked), target


@pytest.mark.parametrize("path", [path for path in DOCUMENTS if path.name != "CHANGELOG.md"], ids=name_of)
def test_every_file_that_a_document_names_exists(path):
    folders = "benchmarks|cluster|configs|docs|examples|jobs|nst_ops|tests"
    named = re.findall(rf"(?<![\w./-])((?:{folders})/[\w./-]*\w)", path.read_text())
    assert [name for name in named if "NAME" not in name and not (ROOT / name).exists()] == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_every_key_that_a_document_names_exists(path):
    known = set().union(*(keys(model) for model in CONFIGURATIONS.values()))
    sections = "|".join({key.split(".")[0] for key in known if "." in key})
    named = set(re.findall(rf"(?:`|--)((?:{sections})(?:\.[a-z_0-9]+)+)", path.read_text()))
    assert named - known - FILES == set()


def test_the_readme_is_short_enough_to_read():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 250


@pytest.mark.parametrize(("title", "most"), [("The way of an image", 10), ("The way of a video", 12)])
def test_the_way_of_a_file_is_short(title, most):
    text = (ROOT / "docs/architecture.md").read_text()
    section = text.split(f"## {title}\n")[1].split("\n## ")[0]
    steps = re.findall(r"^\d+\. `(.+?)`", section, re.MULTILINE)
    assert steps[0] == "nst_ops/collection/inputs.py"
    assert steps[-1] == "nst_ops/collection/manifest.py"
    assert len(steps) <= most


def test_the_page_of_the_manifest_explains_every_column():
    page = (ROOT / "docs/manifest.md").read_text()
    assert [name for name in SCHEMA.names if f"`{name}`" not in page] == []
