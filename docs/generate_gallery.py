"""Draw docs/styles.jpg, docs/styles_mixes.jpg and docs/any_style.jpg: `python docs/generate_gallery.py`.

The first shows every style that ships beside its painting; the second blends, strengths, sizes of strokes and random
mixes; the third what the network for any style makes of small pictures of paintings, and of a photograph. Photographs
are scikit-image's: astronaut and rocket (NASA, SpaceX: public domain), Chelsea and coffee (CC0).
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from skimage import data

from nst_ops.media.images import UInt8Array
from nst_ops.media.style_images import Style
from nst_ops.models.any_style import AnyStyleNet
from nst_ops.models.checkpoint import Checkpoint, load_checkpoint
from nst_ops.models.checkpoint_files import PRETRAINED
from nst_ops.models.conditional import ConditionalNet
from nst_ops.models.style_facts import IDENTITY
from nst_ops.models.style_mix import StyleMix, draw_mix
from nst_ops.stylizers.any_style import AnyStyleStylizer
from nst_ops.stylizers.multi_style import MultiStyleStylizer
from nst_ops.stylizers.registry import model_kind
from nst_ops.stylizers.working_size import at_full_size, at_working_size, blend

DOCS = Path(__file__).parent
PHOTOGRAPHS = ("astronaut", "chelsea", "coffee")
SIDE = 480  # pixels of the shorter side that the network sees
TILE, GAP = 180, 4  # pixels of a tile, which is a square, and between two
STEPS = (0.0, 0.25, 0.5, 0.75, 1.0)
STROKES = (240, 360, 480, 720, 1080)
EXAMPLES = ("starry_night", "great_wave", "the_scream", "mondrian", "kambara", "tahiti", "grande_jatte")
Tile = tuple[str, UInt8Array]


def main() -> None:
    """Write all pictures."""
    checkpoint = load_checkpoint(PRETRAINED / "styles.safetensors")
    photographs = [photograph(name) for name in PHOTOGRAPHS]
    write(DOCS / "styles.jpg", gallery(checkpoint, photographs), columns=2)
    write(DOCS / "styles_mixes.jpg", mixes(checkpoint, photographs[0], photographs[1]), columns=1)
    examples = [(name, painting(checkpoint, name)) for name in EXAMPLES] + [("a photograph", photograph("rocket"))]
    write(DOCS / "any_style.jpg", any_style(examples, photographs), columns=2)


def photograph(name: str) -> UInt8Array:
    """Return the square in the middle of one of scikit-image's photographs, SIDE pixels wide."""
    image = Image.fromarray(getattr(data, name)())
    side, (width, height) = min(image.size), image.size
    left, top = (width - side) // 2, (height - side) // 2
    square = image.crop((left, top, left + side, top + side))
    return np.asarray(square.resize((SIDE, SIDE), Image.Resampling.LANCZOS))


def gallery(checkpoint: Checkpoint, photographs: list[UInt8Array]) -> Iterable[list[Tile]]:
    """Return a row for each style: its painting, and the photographs in it."""
    model = checkpoint.expect(ConditionalNet)
    stylizer = MultiStyleStylizer(model)
    for name in model.names:
        if name != IDENTITY:
            stylized = (("", stylize(stylizer, image, {name: 1.0})) for image in photographs)
            yield [(name, painting(checkpoint, name)), *stylized]


def painting(checkpoint: Checkpoint, name: str) -> UInt8Array:
    """Return the small picture of a style's painting that a checkpoint holds."""
    return np.asarray(Image.open(io.BytesIO(checkpoint.styles[name].thumbnail)).convert("RGB"))


def any_style(examples: Iterable[Tile], photographs: list[UInt8Array]) -> Iterable[list[Tile]]:
    """Return a row for each style image: itself, and the photographs in its style."""
    stylizer = AnyStyleStylizer(load_checkpoint(PRETRAINED / "any_style.safetensors").expect(AnyStyleNet))
    side = model_kind("any_style").style_side
    for name, example_hwc in examples:
        image = Image.fromarray(example_hwc)
        size = [round(length * side / min(image.size)) for length in image.size]
        style = Style(name, np.asarray(image.resize(size, Image.Resampling.LANCZOS)))
        yield [(name, example_hwc), *(("", stylizer(photo_hwc[None], [style])[0]) for photo_hwc in photographs)]


def mixes(checkpoint: Checkpoint, face: UInt8Array, cat: UInt8Array) -> Iterable[list[Tile]]:
    """Return rows of blends, of strengths, of sizes of strokes, and of random mixes."""
    model = checkpoint.expect(ConditionalNet)
    stylizer = MultiStyleStylizer(model)
    for first, second in (("starry_night", "great_wave"), ("kandinsky", "mondrian")):
        shares = [{first: 1 - share, second: share} for share in STEPS]
        labels = [first, *(f"{share:g} {second}" for share in STEPS[1:-1]), second]
        yield [(label, stylize(stylizer, face, mix)) for label, mix in zip(labels, shares, strict=True)]
    for name, image in (("starry_night", face), ("night_cafe", cat)):
        yield [(f"strength {share:g}", at_strength(stylizer, image, name, share)) for share in STEPS]
    yield [(f"stroke {side}", at_stroke(stylizer, face, "wheat_field", side)) for side in STROKES]
    for image, path in ((face, "face.jpg"), (cat, "cat.jpg")):
        drawn = [draw_mix([name for name in model.names if name != IDENTITY], 3, seed, path) for seed in range(5)]
        yield [(f"random, seed {i}", stylize(stylizer, image, dict(mix.shares))) for i, mix in enumerate(drawn)]


def stylize(stylizer: MultiStyleStylizer, image_hwc: UInt8Array, shares: dict[str, float]) -> UInt8Array:
    """Return the photograph in a mix of styles; a share of 0 is left out."""
    mix = StyleMix.of({name: share for name, share in shares.items() if share})
    stylized: UInt8Array = stylizer(image_hwc[None], [Style(mix.label, mix=mix)])[0]
    return stylized


def at_strength(stylizer: MultiStyleStylizer, image_hwc: UInt8Array, name: str, strength: float) -> UInt8Array:
    """Return the photograph as ``style.strength`` has it: a share of it, and a share of the stylized image."""
    stylized = stylize(stylizer, image_hwc, {name: 1.0})
    mixed: UInt8Array = blend(stylized[None], image_hwc[None], strength)[0]
    return mixed


def at_stroke(stylizer: MultiStyleStylizer, image_hwc: UInt8Array, name: str, side: int) -> UInt8Array:
    """Return the photograph as ``style.stroke`` has it: stylized at ``side`` pixels, brought back to its size."""
    frames = image_hwc[None]
    small = at_working_size(frames, side)
    stylized = stylize(stylizer, small[0], {name: 1.0})
    full: UInt8Array = at_full_size(stylized[None], small, frames)[0]
    return full


def write(path: Path, rows: Iterable[list[Tile]], columns: int) -> None:
    """Write rows of tiles under each other, in ``columns``; each tile has its label in a corner."""
    pictures = [row_picture(row) for row in rows]
    height = -(-len(pictures) // columns)
    width = max(picture.width for picture in pictures) + GAP
    sheet = Image.new("RGB", (columns * width + (columns - 1) * 3 * GAP, height * (TILE + GAP)), "white")
    for index, picture in enumerate(pictures):
        sheet.paste(picture, (index // height * (width + 3 * GAP), index % height * (TILE + GAP)))
    sheet.save(path, quality=84, optimize=True, progressive=True)


def row_picture(row: list[Tile]) -> Image.Image:
    """Return tiles beside each other."""
    picture = Image.new("RGB", (len(row) * (TILE + GAP) - GAP, TILE), "white")
    for index, (label, pixels_hwc) in enumerate(row):
        image = Image.fromarray(pixels_hwc)
        side, (width, height) = min(image.size), image.size
        left, top = (width - side) // 2, (height - side) // 2
        box = (left, top, left + side, top + side)
        tile = image.resize((TILE, TILE), Image.Resampling.LANCZOS, box=box)
        ImageDraw.Draw(tile).text((6, 4), label, fill="white", stroke_width=2, stroke_fill="black", font_size=15)
        picture.paste(tile, (index * (TILE + GAP), 0))
    return picture


if __name__ == "__main__":
    main()
