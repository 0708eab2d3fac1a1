"""Images to uint8 arrays and back, with Pillow.

In: orientation applied, colors converted to sRGB, 16-bit, CMYK, grayscale and palette images reduced to 8-bit RGB,
transparency kept apart. Out: the source's format, with its resolution, and its EXIF but for the
orientation, which is applied.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import itertools
import math
import re
import warnings
from dataclasses import dataclass, replace
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageFile, JpegImagePlugin, PngImagePlugin, UnidentifiedImageError

from nst_ops.media import profiles
from nst_ops.media.errors import EmptyFileError, MediaError, UnreadableImageError, UnsupportedMediaError
from nst_ops.media.profiles import to_srgb
from nst_ops.media.repairs import MOST_MISSING, drop_broken_tags, lacks_scans, missing_share, repair
from nst_ops.media.signatures import HEAD_BYTES, NO_MEDIA, content_format, content_kind, read_jxl_header

UInt8Array = npt.NDArray[np.uint8]

DEFAULT_MEGAPIXELS = 300.0
_ORIENTATION, _EXIF, _INTEROP, _COLOR_SPACE, _INTEROP_INDEX = 0x0112, 0x8769, 0xA005, 0xA001, 1
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# Tags that describe the pixels of one TIFF; they would be wrong in any other file.
_PIXEL_TAGS = {
    *(_ORIENTATION, 254, 255, 256, 257, 258, 259, 262, 263, 266, 273, 277, 278, 279, 280, 281, 284, 288, 289),
    *(292, 293, 301, 317, 318, 319, 320, 321, 322, 323, 324, 325, 330, 332, 334, 338, 339, 340, 341, 342),
    *(347, 512, 513, 514, 515, 529, 530, 531, 532, 34675),
}
_SUBFILE, _OLD_SUBFILE, _WIDTH, _HEIGHT, _BITS, _PHOTOMETRIC, _PLANAR, _DNG_VERSION = (
    *(254, 255, 256, 257, 258, 262, 284),
    50706,
)
_WITH_ALPHA = {"RGBA", "LA", "PA", "La", "RGBa"}
_LONGEST_JPEG_EXIF = 65533
_LARGE_PIXELS = 50e6
_X_RESOLUTION = 0x011A
_MOST_DPI = 65535  # that JFIF holds
_ANIMATED_FORMATS = {"GIF", "WEBP", "PNG", "AVIF"}
# Formats that are read, those without a mark at their front last. Others of Pillow's start a program (EPS) or are rare.
_FORMATS = (
    *("JPEG", "PNG", "GIF", "WEBP", "TIFF", "AVIF", "HEIF", "JXL", "JPEG2000", "BMP", "DIB", "PSD", "QOI", "ICNS"),
    *("DDS", "SGI", "PPM", "ICO", "PCX", "TGA"),
)
_PLUGINS = {
    # format: module, what in it makes Pillow know the format, and how to get it
    "HEIF": ("pillow_heif", "register_heif_opener", "a HEIC image: pip install pillow-heif"),
    "JXL": ("pillow_jxl", "", "a JPEG XL image: pip install pillow-jxl-plugin"),
}
_NO_IMAGES = NO_MEDIA | {
    "TIFF": "a TIFF of a kind that Pillow does not read, as colors in floats: convert it to 8 or 16 bits a channel"
}


@dataclass(frozen=True)
class DecodedImage:
    """An image ready for a stylizer, and what its output needs to look like it."""

    rgb_hwc: UInt8Array  # sRGB, upright, at the working size
    alpha_hw: UInt8Array | None  # None where the source is opaque by format
    source_size: tuple[int, int]  # width and height of the upright source in pixels
    exif: bytes  # without the orientation; empty where there is none
    dpi: tuple[float, float] | None = None  # pixels per inch across and down, for print; None where the file says none
    notes: tuple[str, ...] = ()  # what was wrong with the file, or has no place in the output


def limit_megapixels(megapixels: float) -> None:
    """Set the largest image that this process opens, in millions of pixels; a JPEG counts as it is decoded."""
    # Pillow refuses at twice its own limit and warns from there on.
    Image.MAX_IMAGE_PIXELS = math.ceil(megapixels * 1e6 / 2)


warnings.simplefilter("ignore", Image.DecompressionBombWarning)
PngImagePlugin.MAX_TEXT_CHUNK = 16 * 2**20  # a color profile may be larger than the 1 MiB that Pillow allows
limit_megapixels(DEFAULT_MEGAPIXELS)


def open_image(file: BinaryIO) -> ImageFile.ImageFile:
    """Open an image by its content, of a few formats only; nothing is decoded.

    Raises UnsupportedMediaError for one that is larger than ``limit_megapixels`` says, or of a format that needs an
    uninstalled package, and what Pillow raises. The size of a JPEG is for ``decode_image`` to check.
    """
    head = file.read(HEAD_BYTES)
    file.seek(0)
    form = content_format(head)
    if form == "JPEG":  # of several in a file (MPO) the first
        return JpegImagePlugin.JpegImageFile(file)
    header = read_jxl_header(head) if form == "JXL" else None  # its plugin decodes on opening
    if header and (num_pixels := header.width * header.height) > 2 * (Image.MAX_IMAGE_PIXELS or math.inf):
        raise _too_large(num_pixels)
    if plugin := _PLUGINS.get(form):
        module, function, remedy = plugin
        try:
            loaded = importlib.import_module(module)
        except ImportError as error:
            raise UnsupportedMediaError(remedy) from error
        if function:
            getattr(loaded, function)()
    try:
        return Image.open(file, formats=[known for known in _FORMATS if known == form or known not in _PLUGINS])
    except Image.DecompressionBombError as error:
        raise _too_large(float(re.findall(r"\d+", str(error))[0])) from error
    except UnidentifiedImageError as error:
        what = _NO_IMAGES.get(form, "not an image that Pillow can read: check the file or convert it to PNG")
        raise UnreadableImageError(what) from error


def is_video(data: bytes) -> bool:
    """Return whether ``data`` begin as a video does, whatever they are called."""
    return content_kind(data[:HEAD_BYTES]) == "video"


def is_animated(data: bytes) -> bool:
    """Return whether ``data`` is a GIF, WebP, PNG or AVIF with more than one frame."""
    if content_format(data[:HEAD_BYTES]) not in _ANIMATED_FORMATS:
        return False
    try:
        with open_repaired(data) as image:
            return image.format in _ANIMATED_FORMATS and getattr(image, "n_frames", 1) > 1
    except Exception:  # whatever is wrong with the file, decoding it will say it better
        return False


def open_repaired(data: bytes) -> ImageFile.ImageFile:
    """Open an image as ``open_image`` does, without the parts that stand in the way, if there are any."""
    try:
        return open_image(io.BytesIO(data))
    except Exception:
        if not (repaired := repair(data)):
            raise
        return open_image(io.BytesIO(repaired.data))


def decode_image(data: bytes, max_side: int | None = None) -> DecodedImage:
    """Decode a file's bytes to 8-bit sRGB, shrunk to a longer side of at most ``max_side`` pixels.

    A file that lacks only what no pixel needs is decoded, with a note. Raises EmptyFileError; UnreadableImageError if
    it is damaged, truncated or no image; UnsupportedMediaError for a multi-page document, floats outside [0, 1] or more
    pixels than ``limit_megapixels`` says.
    """
    if not data:
        raise EmptyFileError("the file is empty (0 bytes): copy it again from its origin")
    try:
        return _decode(data, max_side)
    except UnsupportedMediaError:
        raise
    except Exception as error:  # Pillow's plugins raise OSError, SyntaxError, struct.error, ...
        with contextlib.suppress(Exception):
            if repaired := repair(data):
                decoded = _decode(repaired.data, max_side)
                return replace(decoded, notes=(*decoded.notes, repaired.note))
        if isinstance(error, MediaError):
            raise
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise UnreadableImageError(f"damaged image: {reason}: copy it again from its origin") from error


def encode_image(
    rgb_hwc: UInt8Array,
    alpha_hw: UInt8Array | None,
    image_format: str,
    quality: int,
    exif: bytes = b"",
    dpi: tuple[float, float] | None = None,
) -> bytes:
    """Encode sRGB, with an optional alpha, in a format of Pillow; ValueError for a JPEG with alpha."""
    image = Image.fromarray(rgb_hwc, "RGB")
    if alpha_hw is not None:
        if image_format == "JPEG":
            raise ValueError("JPEG holds no alpha; write PNG")
        image.putalpha(Image.fromarray(alpha_hw, "L"))
    holds_exif = image_format != "BMP" and not (image_format == "JPEG" and len(exif) > _LONGEST_JPEG_EXIF)
    options: dict[str, object] = {"exif": exif} if exif and holds_exif else {}
    if dpi and image_format in ("JPEG", "PNG", "TIFF", "BMP"):
        options["dpi"] = dpi
    if image_format in ("JPEG", "WEBP", "AVIF"):
        options["quality"] = quality
    if image_format == "JPEG" and quality >= 90:
        options["subsampling"] = "4:4:4"  # halved chroma smears colored strokes
    if image_format == "TIFF" and not _has_sub_blocks(exif):  # libtiff, which compresses, cannot write these
        options["compression"] = "tiff_deflate"
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


def color_profile(data: bytes, image: Image.Image) -> bytes | None:
    """Return the ICC profile of an opened image, or one that says what else its file says of its colors; None: sRGB."""
    return _profile(data, image, _read_exif(image))


def _decode(data: bytes, max_side: int | None) -> DecodedImage:
    with open_image(io.BytesIO(data)) as image:
        notes = _find_page(image) if image.format == "TIFF" else ()
        if image.format == "JXL" and (header := read_jxl_header(data[:HEAD_BYTES])) and header.is_animated:
            notes = ("only its first frame: animations in JPEG XL are not read",)
        exif = _read_exif(image)
        orientation = _orientation(image, exif)
        # Pillow turns a TIFF itself, and its size on opening is the upright one.
        turned = orientation >= 5 and image.format != "TIFF"
        source_size = image.size[::-1] if turned else image.size
        if image.format == "JPEG":
            _draft(image, max_side)
        profile = _profile(data, image, exif)
        exif_block, dpi = _exif_block(exif), _dpi(image, exif)
        if dpi and orientation >= 5:
            dpi = dpi[::-1]
        image.load()
        if image.format == "JPEG":
            _refuse_cut_off(data, image)
        method = None if image.format == "TIFF" else _UPRIGHT.get(orientation)
        upright = image.transpose(method) if method is not None else image
        if upright.mode == "I;16" and profile and "transparency" not in image.info:  # 8 bits of linear light are few
            upright = to_srgb(upright, profile)
            profile = None if upright.mode == "RGB" else profile
        is_negative = image.format == "TIFF" and _tags(image).get(_PHOTOMETRIC) == 0
        rgb = to_srgb(_to_8_bit(upright, image.format, is_negative), profile)
        if rgb.mode != (mode := "RGBA" if rgb.mode in _WITH_ALPHA else "RGB"):
            rgb = rgb.convert(mode)
        if (size := fit_size(rgb.size, max_side)) != rgb.size:
            rgb = rgb.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)
        array = np.asarray(rgb)
    alpha_hw = np.ascontiguousarray(array[..., 3]) if rgb.mode == "RGBA" else None
    return DecodedImage(np.ascontiguousarray(array[..., :3]), alpha_hw, source_size, exif_block, dpi, notes)


def _find_page(image: ImageFile.ImageFile) -> tuple[str, ...]:
    """Go to the one page of a TIFF that is an image, past thumbnails, masks and smaller copies of it; return notes.

    Raises UnsupportedMediaError for a document of several pages, for a camera's raw file, and for what Pillow gets
    wrong.
    """
    if _DNG_VERSION in _tags(image):
        raise UnsupportedMediaError(_NO_IMAGES["raw"])
    pages: dict[int, tuple[int, int]] = {}  # sizes by number
    has_pages = getattr(image, "is_animated", False)
    for number in itertools.count() if has_pages else ():
        try:
            image.seek(number)
        except EOFError:
            break
        except SyntaxError:  # a mask that Pillow does not read; its tags are known by now
            pass
        tags = _tags(image)
        if not (_integer(tags.get(_SUBFILE), 0) & 5 or tags.get(_OLD_SUBFILE) == 2):
            pages[number] = _integer(tags.get(_WIDTH), 0), _integer(tags.get(_HEIGHT), 0)
    if has_pages:
        largest = max(pages, key=lambda number: math.prod(pages[number]), default=0)
        if any(not _is_halved(pages[largest], size) for number, size in pages.items() if number != largest):
            raise UnsupportedMediaError(f"a TIFF of {len(pages)} pages: split it into one file per page first")
        image.seek(largest)
    if _tags(image).get(_PLANAR, 1) == 2 and max(_tags(image).get(_BITS, (8,))) > 8:
        raise UnsupportedMediaError("a TIFF with more than 8 bits in planes: save it with its channels interleaved")
    return ("smaller copies of it in the TIFF are left out",) if has_pages else ()


def _tags(image: Image.Image) -> Any:
    """Return the tags of a TIFF's page."""
    return image.tag_v2  # type: ignore[attr-defined]


def _is_halved(size: tuple[int, int], other: tuple[int, int]) -> bool:
    """Return whether ``other`` is ``size`` halved once or several times, as the levels of a pyramid are."""
    return any(
        all(abs(side / 2**level - smaller) <= 1 for side, smaller in zip(size, other, strict=True))
        for level in range(1, 17)
    )


def _draft(image: ImageFile.ImageFile, max_side: int | None) -> None:
    """Make a JPEG decode at 1/2, 1/4 or 1/8 where that is enough, for next to nothing; refuse one that is too large."""
    num_pixels = math.prod(image.size)
    if max_side:
        # Of a large one a panorama needs no more than others.
        is_large = num_pixels > _LARGE_PIXELS and max(image.size) > max_side
        image.draft(None, fit_size(image.size, max_side) if is_large else (max_side, max_side))
    if "progressive" not in image.info:  # else libjpeg holds all of its coefficients, whatever the scale
        num_pixels = math.prod(image.size)
    if num_pixels > 2 * (Image.MAX_IMAGE_PIXELS or math.inf):
        raise _too_large(num_pixels)


def _too_large(num_pixels: float) -> UnsupportedMediaError:
    limit = 2 * (Image.MAX_IMAGE_PIXELS or 0) / 1e6
    return UnsupportedMediaError(
        f"an image of {num_pixels / 1e6:,.4g} megapixels, and images.max_megapixels is {limit:,.4g}: shrink it, or "
        "raise that, with --retry-failed, where there is memory, about 8 MB for each"
    )


def _refuse_cut_off(data: bytes, image: Image.Image) -> None:
    """Raise OSError for a decoded JPEG that is cut off but has an end mark, as some downloads get: Pillow takes it."""
    if "progressive" in image.info:
        if lacks_scans(data):
            raise OSError("cut off: the scans that make it sharp are missing")
        return
    # A last corner of gray is what libjpeg puts where data are missing: then a closer look is due.
    corner: Any = image.getpixel((image.width - 1, image.height - 1))
    is_gray = all(127 <= level <= 129 for level in (corner if isinstance(corner, tuple) else (corner,)))
    if is_gray and (missing := missing_share(data)) > MOST_MISSING:
        raise OSError(f"cut off: {missing:.0%} of its pixels are missing")


def _read_exif(image: Image.Image) -> Image.Exif:
    try:
        block = image.info.get("exif")
        if isinstance(block, bytes) and (sound := drop_broken_tags(block)) != block:
            exif = Image.Exif()
            exif.load(sound)
            return exif
        return image.getexif()
    except Exception:  # a broken block is not worth a lost image
        return Image.Exif()


def _orientation(image: Image.Image, exif: Image.Exif) -> int:
    """Return the orientation from 1 to 8; 1 where the tag makes no sense, or the decoder has applied it."""
    if image.format == "JXL" and not getattr(image, "jpeg", False):
        return 1
    try:
        number = _integer(exif.get(_ORIENTATION), 1)
    except Exception:  # Pillow decodes a tag when it is asked for
        return 1
    return number if 1 <= number <= 8 else 1


def _dpi(image: Image.Image, exif: Image.Exif) -> tuple[float, float] | None:
    """Return the pixels per inch that a file says; None where it says none, or what no format holds."""
    says = image.info.get("jfif_unit") in (1, 2) or _X_RESOLUTION in exif
    if image.format == "JPEG" and not says:  # Pillow takes 72 for one with other EXIF
        return None
    try:
        across, down = map(float, image.info["dpi"])
    except (KeyError, TypeError, ValueError, ArithmeticError):
        return None
    return (across, down) if all(1 <= value <= _MOST_DPI for value in (across, down)) else None


def _integer(value: Any, default: int) -> int:
    """Return the value of a tag, whatever its type; the first of several, and the default for what is no number."""
    try:
        return int(value[0] if isinstance(value, tuple | list) else value)
    except (TypeError, ValueError, ArithmeticError, IndexError):
        return default


def _profile(data: bytes, image: Image.Image, exif: Image.Exif) -> bytes | None:
    """Return the ICC profile of an image, or one that says what else its file says of its colors; None: sRGB."""
    info = image.info
    points = _code_points(data, image.format)
    if image.format == "PNG" and points and (profile := profiles.of_code_points(*points)):
        return profile
    if isinstance(profile := info.get("icc_profile"), bytes) and profile:
        return profile
    if points:
        return profiles.of_code_points(*points)
    if image.format == "PNG":
        gamma, chromaticities = info.get("gamma"), info.get("chromaticity")
        return profiles.of_gamma(gamma, chromaticities) if gamma and "srgb" not in info else None
    return profiles.adobe_rgb() if _is_adobe_rgb(exif) else None


def _code_points(data: bytes, image_format: str | None) -> tuple[int, int] | None:
    """Return primaries and transfer by ITU-T H.273 as a PNG, HEIF or AVIF has them at its front."""
    if image_format == "PNG":
        place = data.find(b"\0\0\0\4cICP", 0, max(0, data.find(b"IDAT")))
        return (data[place + 8], data[place + 9]) if place >= 0 else None
    if image_format in ("AVIF", "HEIF"):
        place = data.find(b"colrnclx", 0, 2**16)
        if 0 <= place <= len(data) - 12:
            return int.from_bytes(data[place + 8 : place + 10]), int.from_bytes(data[place + 10 : place + 12])
    return None


def _is_adobe_rgb(exif: Image.Exif) -> bool:
    """Return whether a camera says Adobe RGB, by DCF's option file or as some of them do without."""
    if _EXIF not in exif:
        return False
    with contextlib.suppress(Exception):
        color_space = exif.get_ifd(_EXIF).get(_COLOR_SPACE)
        if color_space == 0xFFFF:
            return str(exif.get_ifd(_INTEROP).get(_INTEROP_INDEX, "")).startswith("R03")
        return bool(color_space == 2)
    return False


def fit_size(size: tuple[int, int], max_side: int | None) -> tuple[int, int]:
    """Return a (width, height) shrunk, never enlarged, to a longer side of ``max_side``."""
    if not max_side or max(size) <= max_side:
        return size
    scale = max_side / max(size)
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _exif_block(exif: Image.Exif) -> bytes:
    """Return the EXIF without the orientation, which is applied, and without tags of a TIFF's pixels.

    It says sRGB where it said another color space. Of tags that cannot be written, as of a wrong type, each is left
    out alone.
    """
    block = Image.Exif()
    try:
        block.load(exif.tobytes())
    except Exception:
        block = _writable(exif)
    try:
        for tag in _PIXEL_TAGS & set(block):
            del block[tag]
        if not len(block):
            return b""
        if _EXIF in block and block.get_ifd(_EXIF).get(_COLOR_SPACE, 1) != 1:
            block.get_ifd(_EXIF)[_COLOR_SPACE] = 1
            if _INTEROP in block.get_ifd(_EXIF):
                block.get_ifd(_INTEROP)[_INTEROP_INDEX] = "R98"
        return block.tobytes()
    except Exception:  # a broken block is not worth a lost image
        return b""


def _writable(exif: Image.Exif) -> Image.Exif:
    """Copy those tags that can be written."""
    block = Image.Exif()
    folders = {ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo}
    for tag in exif:
        with contextlib.suppress(Exception):
            if tag in folders:
                block[tag] = {sub: value for sub, value in exif.get_ifd(tag).items() if _is_writable(sub, value)}
            elif _is_writable(tag, exif[tag]):
                block[tag] = exif[tag]
    return block


def _is_writable(tag: int, value: object) -> bool:
    probe = Image.Exif()
    probe[tag] = value
    try:
        return bool(probe.tobytes())
    except Exception:
        return False


def _has_sub_blocks(exif_block: bytes) -> bool:
    exif = Image.Exif()
    exif.load(exif_block)
    return not {ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo}.isdisjoint(exif)


def _to_8_bit(image: Image.Image, source_format: str | None, is_negative: bool) -> Image.Image:
    """Scale 16-bit, 32-bit and float grays, 0 white if ``is_negative``; Pillow alone would clip them to white."""
    if image.mode.startswith("I"):
        values = np.asarray(image).astype(np.int64)
        is_16_bit = image.mode.startswith("I;16") or source_format == "PPM"
        if not is_16_bit and not 0 <= values.min(initial=0) <= values.max(initial=0) <= 65535:
            raise UnsupportedMediaError("an image of 32-bit integers outside [0, 65535]: scale it before stylizing")
        peak = 65535 if is_16_bit or values.max(initial=0) > 255 else 255
        values = peak - values if is_negative else values
        gray = Image.fromarray((values * 255 // peak).astype(np.uint8))
        if isinstance(clear := image.info.get("transparency"), int):
            gray.putalpha(Image.fromarray(np.where(values == clear, 0, 255).astype(np.uint8)))
        return gray
    if image.mode == "F":
        values_f = np.asarray(image)
        if not np.isfinite(values_f).all() or values_f.min(initial=0) < 0 or values_f.max(initial=0) > 1:
            raise UnsupportedMediaError("a float image with values outside [0, 1]: scale it before stylizing")
        return Image.fromarray((values_f * 255).round().astype(np.uint8))
    if image.has_transparency_data and image.mode not in ("RGBA", "LA"):  # one color, or each of a palette
        return image.convert("RGBA")
    return image if image.mode in ("RGB", "L", "RGBA", "LA", "CMYK") else image.convert("RGB")
