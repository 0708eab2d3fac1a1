"""The model card says all that the facts hold, and nothing where they hold nothing."""

import re

import pytest
import yaml

from nst_ops.config import TrainJohnsonConfig
from nst_ops.training.model_card import model_card

RECIPE = TrainJohnsonConfig(
    data={"content": "p"}, style="s.jpg", output="o", network={"start_from": "starry_night"}
).model_dump(mode="json", include={"style_side", "style_margin", "network", "loss", "train"})
FACTS = {
    "style": "The Kiss",
    "painter": "Gustav Klimt",
    "data": "my own photographs | CC0",
    "reviewed_by": "nobody",
    "parameters": 1_679_235,
    "content": 256,
    "content_images_skipped": 3,
    "content_images_held_out": 5,
    "recipe": RECIPE,
    "steps": 1999,
    "steps_skipped": 7,
    "precision": "fp16",
    "losses": {"total": 1.25, "content": 0.75, "gram": 0.0425},
    "validation": {"total": 1.5, "content": 0.875, "gram": 0.0525},
    "images_per_s": 12.3,
    "data_wait_share": 0.015,
    "train_s": 4010,
    "workers": 2,
    "device": "Tesla T4",
    "versions": {"python": "3.11.7", "torch": "2.15.0"},
}
SAID = {"parameters": "1,679,235", "steps": "1,999", "data_wait_share": "1.5%", "train_s": "1 h 6 min"}
SAID |= {"data": r"my own photographs \| CC0"}


def test_no_value_is_lost():
    card = model_card("klimt", FACTS)
    assert card.startswith("# klimt\n\nA Johnson network (1,679,235 parameters, 3.4 MB in fp16) that stylizes")
    assert "in the manner of The Kiss (Gustav Klimt)." in card
    for key, value in FACTS.items():
        if isinstance(value, dict):
            continue
        assert SAID.get(key, str(value)) in card, key
    assert "| gram | 12.0 | relu1_2, relu2_2, relu3_1, relu3_4 | 0.0425 | 0.0525 |" in card
    assert "| total |  |  | 1.25 | 1.5 |" in card
    assert "| torch | 2.15.0 |" in card
    assert "start_from: starry_night" in card
    assert "--model.checkpoint model.safetensors" in card
    assert re.findall(r"\]\((.*?)\)", card) == ["grid.png", "losses.png"]


def test_the_recipe_can_be_used_again():
    block = re.search(r"```yaml\n(.*?)\n```", model_card("klimt", FACTS), re.DOTALL)
    recipe = yaml.safe_load(block[1])
    assert recipe == RECIPE
    again = TrainJohnsonConfig(data={"content": "p"}, style="s.jpg", output="o", **recipe)
    assert again.loss == TrainJohnsonConfig(data={"content": "p"}, style="s.jpg", output="o").loss


def test_tables_are_whole():
    lines = model_card("klimt", FACTS).splitlines()
    tables = [line for line in lines if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in tables} == {3, 6}


@pytest.mark.parametrize("key", FACTS)
def test_a_missing_fact_leaves_its_line_out(key):
    whole, less = FACTS, {name: value for name, value in FACTS.items() if name != key}
    card = model_card("klimt", less)
    assert "None" not in card
    assert len(card) < len(model_card("klimt", whole))


def test_nothing_known_makes_a_card_without_empty_sections():
    card = model_card("klimt", {}, grid=None, curves=None)
    assert re.findall("^#.*", card, re.MULTILINE) == ["# klimt", "## Use"]
    assert "A Johnson network that stylizes images." in card


def test_facts_of_older_checkpoints_are_shown():
    card = model_card("old", {"recipe": {"loss": {"content_tap": "relu3_1"}, "steps": 420}, "stages": [{"a": 1}]})
    assert "content_tap: relu3_1" in card
    assert "{'a': 1}" in card
