"""Model card and summary of a training: the facts of a checkpoint, for people."""

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from nst_ops.storage import Folder
from nst_ops.training.checkpointing import CARD, MODEL

_DATA = ("content_images", "content_images_skipped", "content_images_held_out", "style_images", "style_images_skipped")
_TRAINING = ("steps", "steps_skipped", "precision")
_SPEED = ("images_per_s", "data_wait_share", "train_s", "workers", "device")
_LABELS = {
    "content_images_skipped": "not readable, skipped",
    "content_images_held_out": "held out",
    "style_names": "styles",
    "style_images_skipped": "style images not readable, skipped",
    "steps_skipped": "skipped as not finite",
    "images_per_s": "images per second",
    "data_wait_share": "waiting for data",
    "train_s": "wall time",
}
_ELSEWHERE = ("architecture", "parameters", "recipe", "losses", "validation", "versions")
_USE = {
    "johnson": """\
    nst-ops stylize --model.checkpoint model.safetensors --input photos --output stylized""",
    "vit_adain": """\
    nst-ops stylize --model.kind vit_adain --model.checkpoint model.safetensors \\
        --style.images style.jpg --input photos --output stylized""",
    "multi_style": """\
    nst-ops stylize --model.checkpoint model.safetensors --style.name NAME --input photos --output stylized""",
}
_NETWORKS = {"johnson": "Johnson", "multi_style": "network of many styles", "vit_adain": "ViT-AdaIN"}


def model_card(
    name: str, facts: Mapping[str, Any], grid: str | None = "grid.png", curves: str | None = "losses.png"
) -> str:
    """Write the facts of a checkpoint as Markdown; what they do not hold is left out.

    ``facts`` are ``architecture`` of the network, ``parameters`` and the counts of images and steps (ints), ``recipe``
    (nested, keys as in the configuration), ``precision``, ``losses`` and ``validation`` ({term: value}),
    ``images_per_s``, ``data_wait_share`` (of 1), ``train_s`` (seconds), ``workers``, ``device``, ``versions``
    ({name: version}). Any other key is shown as the user's own words. ``name`` is the style's; ``grid`` and ``curves``
    are links, relative to the card.
    """
    own = [key for key in facts if key not in (*_DATA, *_TRAINING, *_SPEED, *_ELSEWHERE)]
    recipe = yaml.safe_dump(dict(facts.get("recipe") or {}), sort_keys=False, allow_unicode=True).rstrip()
    versions = facts.get("versions", {})
    sections = [
        f"# {name}",
        _summary(facts),
        f"![style image; content images and their stylized versions]({grid})" if grid else "",
        _section("Data and terms", _table(facts, [*own, *_DATA])),
        _section("Training", _table(facts, _TRAINING)),
        _section("Losses", _losses(facts), f"![losses over the steps]({curves})" if curves else ""),
        _section("Speed", _table(facts, _SPEED)),
        _section("Software", _table(versions, list(versions))),
        _section("Use", _USE[facts.get("architecture", "johnson")]),
        _section("Configuration", f"```yaml\n{recipe}\n```" if facts.get("recipe") else ""),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _summary(facts: Mapping[str, Any]) -> str:
    count = facts.get("parameters")
    size = f" ({count:,} parameters, {2 * count / 1e6:.1f} MB in fp16)" if count else ""
    network = _NETWORKS[facts.get("architecture", "johnson")]
    if "style_names" in facts:
        return f"A {network}{size}: {facts['style_names']}."
    if network == "ViT-AdaIN":
        learned = f", learned from {facts['style']}" if "style" in facts else ""
        return f"A {network} network{size} that stylizes images like any style image{learned}."
    manner = f" in the manner of {facts['style']}" if "style" in facts else ""
    painter = f" ({facts['painter']})" if manner and "painter" in facts else ""
    return f"A {network} network{size} that stylizes images{manner}{painter}."


def _section(title: str, *parts: str) -> str:
    body = [part for part in parts if part]
    return "\n\n".join([f"## {title}", *body]) if body else ""


def _table(values: Mapping[str, Any], keys: Sequence[str]) -> str:
    """Make two columns, a row for each of ``keys`` that has a value."""
    labels = {key: _LABELS.get(key, key.replace("_", " ")) for key in keys if key in values}
    return _markdown_table(("", ""), [(label, _text(key, values[key])) for key, label in labels.items()])


def _losses(facts: Mapping[str, Any]) -> str:
    """Make a row per term: its weight, the taps it looks at, and its values."""
    trained, validated = facts.get("losses", {}), facts.get("validation", {})
    asked = facts.get("recipe", {}).get("loss", {})
    rows = []
    for term in dict.fromkeys([*trained, *validated]):
        section = section if isinstance(section := asked.get(term, {}), Mapping) else {"weight": section}
        taps = ", ".join(section.get("taps", {}))
        values = (section.get("weight"), taps, trained.get(term), validated.get(term))
        rows.append((term, *("" if value is None else _text(term, value) for value in values)))
    table = _markdown_table(("term", "weight", "taps", "training, recent mean", "held out"), rows)
    return f"Terms are unweighted; the total is weighted.\n\n{table}" if table else ""


def _markdown_table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    if not rows:
        return ""
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


def _text(key: str, value: Any) -> str:
    """Write a value on one line for people; a share in percent, a duration in hours and minutes."""
    if key == "data_wait_share":
        return f"{value:.1%}"
    if key == "train_s":
        minutes, seconds = divmod(round(value), 60)
        hours, minutes = divmod(minutes, 60)
        return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return " ".join(str(value).split())


def describe_outcome(output_uri: str, facts: Mapping[str, Any]) -> str:
    """Say where the results of a training lie, what its losses are, and what to do next."""
    output = Folder(output_uri)
    losses = ", ".join(f"{term} {value:.3g}" for term, value in facts["validation"].items() if term != "total")
    any_style = "--model.kind vit_adain --style.images IMAGE " if facts["architecture"] == "vit_adain" else ""
    workers, waiting = f"{facts['workers']} x {facts['device']}", f"{facts['data_wait_share']:.1%}"
    lines = (
        f"trained          {facts['steps']} steps in {_text('train_s', facts['train_s'])}, on {workers}",
        f"speed            {facts['images_per_s']:.3g} images/s, {waiting} of the time waiting for them",
        f"held-out losses  {losses}",
        f"look at          {output.uri('grid.png')}",
        f"                 {output.uri('losses.png')}",
        f"read             {output.uri(CARD)}",
        f"stylize with     {any_style}--model.checkpoint {output.uri(MODEL)}",
    )
    return "\n".join(lines)
