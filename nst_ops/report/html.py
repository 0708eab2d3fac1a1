"""Building blocks of the pages: one HTML file with its images in it, no scripts, nothing from the network."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Sequence
from html import escape

from PIL import Image


def page(title: str, body: Iterable[str], style: str = "") -> str:
    """Put a page together from its title as text, the HTML of its parts, and more CSS."""
    return _PAGE.format(title=escape(title), style=_STYLE + style, body="\n".join(body))


def definitions(pairs: Iterable[tuple[str, str]]) -> str:
    """A list of names and what there is to say of each, both text."""
    return f"<dl>{''.join(f'<dt>{escape(name)}</dt><dd>{escape(text)}</dd>' for name, text in pairs)}</dl>"


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], numbers: range = range(0)) -> str:
    """A table of text; the columns ``numbers`` are aligned at the right."""

    def line(tag: str, row: Sequence[str]) -> str:
        return "".join(f"<{tag}{' class=number' * (n in numbers)}>{escape(cell)}</{tag}>" for n, cell in enumerate(row))

    lines = [line("th", heads), *(line("td", row) for row in rows)]
    return f"<table>{''.join(f'<tr>{cells}</tr>' for cells in lines)}</table>"


def figure(content: str, caption: str) -> str:
    """HTML with a text below it."""
    return f"<figure>{content}<figcaption>{escape(caption)}</figcaption></figure>"


def image(data: bytes, kind: str) -> str:
    """An encoded image that is part of the page: ``png``, ``jpeg`` or ``svg+xml``."""
    return f'<img src="data:image/{kind};base64,{base64.b64encode(data).decode()}" alt="">'


def thumbnail(pixels: Image.Image, side: int = 256) -> str:
    """A small JPEG that is part of the page, transparent parts on white."""
    if pixels.mode == "RGBA":
        pixels = Image.alpha_composite(Image.new("RGBA", pixels.size, "white"), pixels)
    small = pixels.convert("RGB")
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=88, subsampling=0)
    return image(buffer.getvalue(), "jpeg")


_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 1120px; margin: 2rem auto;
  padding: 0 1rem }
h1 { font-size: 1.5rem }
h2 { font-size: 1.15rem; margin-top: 2.2rem }
h3 { font-size: .9rem; margin: 1.2rem 0 .3rem }
h4 { margin: 0 0 .3rem; font-size: .9rem }
table { border-collapse: collapse; font-size: .9rem; width: 100%; overflow-wrap: anywhere }
th, td { text-align: left; vertical-align: top }
th, td { padding: .25rem .7rem .25rem 0; border-bottom: 1px solid #e6e2dc }
th.number, td.number { text-align: right; padding-left: .7rem }
.number { font-variant-numeric: tabular-nums; white-space: nowrap }
.small, dl { font-size: .85rem; color: #555 }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1rem }
dt { font-weight: 600; max-width: 22rem }
dd { margin: 0; overflow-wrap: anywhere }
figure { margin: 0 }
figcaption { font-size: .78rem; color: #777 }
img, video { max-width: 100% }
.rows { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(500px, 100%), 1fr)); gap: 1.2rem }
.row { background: #faf8f5; padding: .8rem; border-radius: 6px; overflow-wrap: anywhere }
.images { display: grid; grid-auto-flow: column; grid-auto-columns: 1fr; gap: .5rem; align-items: start }
.images img { width: 100% }
"""
_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{style}</style>
{body}
</html>
"""
