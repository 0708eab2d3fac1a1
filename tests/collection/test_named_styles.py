"""Names of styles, blends and random mixes: what an item gets, and what is refused."""

from __future__ import annotations

import json
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from nst_ops.collection.styles import NamedStyles
from nst_ops.config import ConfigError
from nst_ops.config.stylize import StyleConfig
from nst_ops.models.style_mix import StyleMix, draw_mix

KNOWN = ("waves", "stars", "identity", "moss", "amber")


def choose(**style: object) -> NamedStyles:
    return NamedStyles.choose(StyleConfig.model_validate(style), KNOWN)


@pytest.mark.parametrize(
    ("style", "names"),
    [
        ({}, ("waves",)),
        ({"name": "moss"}, ("moss",)),
        ({"name": "identity"}, ("identity",)),
        ({"names": ["moss"]}, ("moss",)),
        ({"mode": "each"}, ("amber", "moss", "stars", "waves")),
        ({"mode": "random", "names": ["stars", "moss", "stars"]}, ("moss", "stars")),
        ({"blend": {"waves": 0.3, "stars": 0.7}}, ("stars_0.7+waves_0.3",)),
        ({"random": {"seed": 7}}, ("random",)),
    ],
)
def test_names_of_the_styles_of_a_run(style: dict[str, object], names: tuple[str, ...]) -> None:
    assert choose(**style).names == names


@pytest.mark.parametrize(
    ("checkpoint", "style", "name"),
    [
        ("moss", {}, "moss"),
        ("moss", {"name": "amber"}, "amber"),
        ("moss", {"names": ["amber"]}, "amber"),
        ("models/moss", {}, "waves"),
    ],
)
def test_a_checkpoint_may_be_named_by_its_style(checkpoint: str, style: dict[str, object], name: str) -> None:
    assert NamedStyles.choose(StyleConfig.model_validate(style), KNOWN, checkpoint).names == (name,)


@pytest.mark.parametrize(
    ("style", "words"),
    [
        ({"name": "wave"}, r"style\.name: the checkpoint has no style 'wave', did you mean 'waves'\?"),
        ({"mode": "each", "names": ["waves", "x"]}, r"style\.names: .* no style 'x'; it has waves, stars"),
        ({"blend": {"waves": 0.5, "star": 0.5}}, r"style\.blend: .*did you mean 'stars'"),
        ({"blend": {"waves": 0.5, "stars": 0.4}}, r"shares sum to 0\.9, not to 1: such as waves=0\.556,stars=0\.444"),
        ({"blend": {"waves": 1.5, "stars": -0.5}}, r"the share of stars is -0\.5: it must be more than 0"),
        ({"blend": {"waves": float("nan")}}, "the share of waves is nan"),
        ({"names": ["waves", "moss"]}, r"style\.mode is one: give --style\.mode each"),
        ({"random": {"seed": 1, "mixes": 5}}, "there are 4 styles: take 4 at most"),
    ],
)
def test_what_the_checkpoint_does_not_hold_is_refused(style: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        choose(**style)


@pytest.mark.parametrize(
    "style",
    [
        {"name": "waves", "blend": {"waves": 1.0}},
        {"name": "waves", "names": ["waves"]},
        {"name": "waves", "random": {"seed": 0}},
        {"blend": {"waves": 1.0}, "random": {"seed": 0}},
        {"blend": {"waves": 1.0}, "mode": "each"},
        {"random": {"seed": 0}, "mode": "random"},
        {"random": {"mixes": 2}},
    ],
)
def test_keys_that_exclude_each_other_are_refused(style: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match=r"exclude each other|is one style|needs random styles"):
        StyleConfig.model_validate(style)


@given(st.text(max_size=20), st.integers(0, 2**40), st.integers(1, 5))
def test_a_drawn_mix_is_exact_as_it_is_written(path: str, seed: int, count: int) -> None:
    mix = draw_mix(KNOWN, count, seed, path)
    assert mix == draw_mix(KNOWN[::-1], count, seed, path)
    assert 1 <= len(mix.shares) <= count
    assert sum(round(10_000 * share) for _, share in mix.shares) == 10_000
    assert StyleMix.of(json.loads(mix.to_json())) == mix


def test_draws_are_spread_over_all_styles_and_shares() -> None:
    mixes = [draw_mix(KNOWN, 3, 0, f"{number}.jpg") for number in range(2_000)]
    assert len(set(mixes)) == len(mixes)
    counts = Counter(name for mix in mixes for name, _ in mix.shares)
    assert max(counts.values()) < 1.1 * min(counts.values())
    largest = [max(share for _, share in mix.shares) for mix in mixes]
    assert 0.58 < sum(largest) / len(mixes) < 0.64  # 11/18 for uniform shares of three
    assert mixes != [draw_mix(KNOWN, 3, 1, f"{number}.jpg") for number in range(2_000)]


def test_each_image_of_a_shard_has_a_mix_of_its_own() -> None:
    styles = choose(random={"seed": 3})
    members = [styles.mix("random", {"relpath": "a.tar", "source_member": f"{i}.png"}) for i in range(3)]
    assert len({*members, styles.mix("random", {"relpath": "a.tar"})}) == 4
