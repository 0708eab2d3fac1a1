"""Who gets which style: fair, and the same on every rerun."""

import hashlib
from collections import Counter

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nst_ops.collection.constants import CATALOG_SCHEMA
from nst_ops.collection.manifest import SCHEMA
from nst_ops.collection.planner import Plan, PlanRules
from nst_ops.collection.styles import StyleChoice

NAMES = tuple("abcde")
PATHS = [f"class {n % 7}/{n}.jpg" for n in range(2000)]


def styles_of(choice: StyleChoice, paths: list[str] = PATHS) -> list[tuple[str, ...]]:
    """The styles that a plan gives each file."""
    rows = [{"relpath": path, "source_bytes": 1, "source_version": "1", "kind": "image"} for path in paths]
    catalog = pa.Table.from_pylist(rows, schema=CATALOG_SCHEMA)
    plan = Plan(catalog, SCHEMA.empty_table(), PlanRules(choice))
    found = {item["relpath"]: item["styles"] for unit in plan.units() for item in unit.items}
    return [found[path] for path in paths]


def drawn(seed: int, names: tuple[str, ...] = NAMES, paths: list[str] = PATHS) -> list[str]:
    return [styles[0] for styles in styles_of(StyleChoice(names, "random", seed), paths)]


def expected(seed: int, path: str, names: tuple[str, ...]) -> str:
    """The draw as outputs of every version so far have it."""
    digest = hashlib.sha256(f"{seed}\n{path}".encode()).digest()
    return names[int.from_bytes(digest[:8]) % len(names)]


@given(
    st.lists(st.text("aé/ '\"\\\n漢", min_size=1, max_size=8), min_size=1, max_size=5, unique=True),
    st.integers(0, 2**40),
    st.integers(1, 7),
)
def test_a_draw_depends_on_path_seed_and_number_of_names(paths, seed, num_names):
    names = tuple(f"style {number}" for number in range(num_names))
    paths = [f"{path}.jpg" for path in paths]
    assert drawn(seed, names, paths) == [expected(seed, path, names) for path in paths]


def test_another_seed_or_name_draws_anew():
    assert drawn(1) == drawn(1, paths=PATHS[::-1])[::-1]
    assert drawn(1) != drawn(2)
    assert drawn(1) != drawn(1, NAMES[:4])


def test_every_style_has_its_share():
    shares = Counter(drawn(0))
    assert set(shares) == set(NAMES)
    assert max(shares.values()) < 1.2 * len(PATHS) / len(NAMES)
    # A draw of its own for each: neighbors agree as often as chance lets them.
    agreements = sum(a == b for a, b in zip(drawn(0), drawn(0)[1:], strict=False))
    assert 0.15 < agreements / len(PATHS) < 0.25


@pytest.mark.parametrize(
    ("choice", "styles", "per_item"), [(StyleChoice(NAMES, "each"), NAMES, 5), (StyleChoice(("a",)), ("a",), 1)]
)
def test_each_gives_all_and_one_gives_one(choice, styles, per_item):
    assert styles_of(choice, ["x.jpg"]) == [styles]
    assert choice.per_item == per_item


def test_only_each_has_folders():
    assert StyleChoice(NAMES, "each").output("a", "d/x.jpg") == "a/d/x.jpg"
    assert StyleChoice(NAMES, "random").output("a", "d/x.jpg") == "d/x.jpg"
    assert StyleChoice(("a",)).output("a", "d/x.jpg") == "d/x.jpg"
