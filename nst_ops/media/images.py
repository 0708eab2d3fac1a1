"""Images to uint8 arrays and back, with Pillow.

In: orientation applied, embedded profile converted to sRGB, 16-bit, CMYK, grayscale and palette images reduced to
8-bit RGB, transparency kept apart. Out: the source's format, with its EXIF but for the orientation, which is applied.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageCms, ImageOps, UnidentifiedImageError

from nst_ops.media.errors import EmptyFileError, MediaError, UnreadableImageError, UnsupportedMediaError

UInt8Array = npt.NDArray[np.uint8]

_SRGB = ImageCms.createProfile("sRGB")
_ORIENTATION = 0x0112
# Tags that describe the pixels of one TIFF; they would be wrong in any other file.
_PIXEL_TAGS = {
    *(_ORIENTATION, 254, 255, 256, 257, 258, 259, 262, 263, 266, 273, 277, 278, 279, 280, 281, 284, 288, 289),
    *(292, 293, 301, 317, 318, 319, 320, 321, 322, 323, 324, 325, 330, 332, 334, 338, 339, 340, 341, 342),
    *(347, 512, 513, 514, 515, 529, 530, 531, 532, 34675),
}
_WITH_ALPHA = {"RGBA", "LA", "PA", "La", "RGBa"}
_LONGEST_JPEG_EXIF = 65533
_ANIMATED_FORMATS = {"GIF", "WEBP", "PNG", "AVIF"}


@dataclass(frozen=True)
class DecodedImage:
    """An image ready for a stylizer, and what its output needs to look like it."""

    rgb_hwc: UInt8Array  # sRGB, upright, at the working size
    alpha_hw: UInt8Array | None  # None where the source is opaque by format
    source_size: tuple[int, int]  # width and height of the upright source in pixels
    exif: bytes  # without the orientation; empty where there is none


def is_animated(data: bytes) -> bool:
    """Return whether ``data`` is a GIF, WebP, PNG or AVIF with more than one frame."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            return image.format in _ANIMATED_FORMATS and getattr(image, "n_frames", 1) > 1
    except Exception:  # whatever is wrong with the file, decoding it will say it better
        return False


def decode_image(data: bytes, max_side: int | None = None) -> DecodedImage:
    """Decode a file's bytes to 8-bit sRGB, shrunk to a longer side of at most ``max_side`` pixels.

    Raises EmptyFileError; UnreadableImageError if it is damaged, truncated or no image; UnsupportedMediaError for a
    multi-page document or floats outside [0, 1].
    """
    if not data:
        raise EmptyFileError("the file is empty (0 bytes): copy it again from its origin")
    try:
        with Image.open(io.BytesIO(data)) as image:
            return _decode(image, max_side)
    except MediaError:
        raise
    except UnidentifiedImageError as error:
        raise UnreadableImageError("not an image that Pillow can read: check the file or convert it to PNG") from error
    except Image.DecompressionBombError as error:
        raise UnsupportedMediaError(f"{error}; shrink it before stylizing") from error
    except Exception as error:  # Pillow's plugins raise OSError, SyntaxError, struct.error, ...
        raise UnreadableImageError(f"damaged image: {error}: copy it again from its origin") from error


def encode_image(
    rgb_hwc: UInt8Array, alpha_hw: UInt8Array | None, image_format: str, quality: int, exif: bytes = b""
) -> bytes:
    """Encode sRGB, with an optional alpha, in a format of Pillow; ValueError for a JPEG with alpha."""
    image = Image.fromarray(rgb_hwc, "RGB")
    if alpha_hw is not None:
        if image_format == "JPEG":
            raise ValueError("JPEG holds no alpha; write PNG")
        image.putalpha(Image.fromarray(alpha_hw, "L"))
    holds_exif = image_format != "BMP" and not (image_format == "JPEG" and len(exif) > _LONGEST_JPEG_EXIF)
    options: dict[str, object] = {"exif": exif} if exif and holds_exif else {}
    if image_format in ("JPEG", "WEBP", "AVIF"):
        options["quality"] = quality
    if image_format == "JPEG" and quality >= 90:
        options["subsampling"] = "4:4:4"  # halved chroma smears colored strokes
    if image_format == "TIFF" and not _has_sub_blocks(exif):  # libtiff, which compresses, cannot write these
        options["compression"] = "tiff_deflate"
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


def _decode(image: Image.Image, max_side: int | None) -> DecodedImage:
    if image.format == "TIFF" and (num_pages := getattr(image, "n_frames", 1)) > 1:
        raise UnsupportedMediaError(f"a TIFF of {num_pages} pages: split it into one file per page first")
    exif = image.getexif()
    # Pillow turns a TIFF itself, and its size on opening is the upright one.
    turned = exif.get(_ORIENTATION, 1) >= 5 and image.format != "TIFF"
    source_size = image.size[::-1] if turned else image.size
    if max_side:
        image.draft(None, (max_side, max_side))  # a JPEG decodes at 1/2, 1/4 or 1/8 for next to nothing
    exif_block, icc_profile = _exif_block(exif), image.info.get("icc_profile")
    rgb = _to_srgb(_to_8_bit(ImageOps.exif_transpose(image)), icc_profile)
    rgb = rgb.convert("RGBA" if rgb.mode in _WITH_ALPHA else "RGB")
    if (size := fit_size(rgb.size, max_side)) != rgb.size:
        rgb = rgb.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)
    array = np.asarray(rgb)
    alpha_hw = np.ascontiguousarray(array[..., 3]) if rgb.mode == "RGBA" else None
    return DecodedImage(np.ascontiguousarray(array[..., :3]), alpha_hw, source_size, exif_block)


def fit_size(size: tuple[int, int], max_side: int | None) -> tuple[int, int]:
    """Return a (width, height) shrunk, never enlarged, to a longer side of ``max_side``."""
    if not max_side or max(size) <= max_side:
        return size
    scale = max_side / max(size)
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _exif_block(exif: Image.Exif) -> bytes:
    """Return the EXIF without the orientation, which is applied, and without tags of a TIFF's pixels."""
    block = Image.Exif()
    try:
        block.load(exif.tobytes())
        for tag in _PIXEL_TAGS & set(block):
            del block[tag]
        return block.tobytes() if len(block) else b""
    except Exception:  # a broken block is not worth a lost image
        return b""


def _has_sub_blocks(exif_block: bytes) -> bool:
    exif = Image.Exif()
    exif.load(exif_block)
    return not {ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo}.isdisjoint(exif)


def _to_8_bit(image: Image.Image) -> Image.Image:
    """Scale 16-bit, 32-bit and float grays; Pillow alone would clip them to white."""
    if image.mode.startswith("I"):
        values = np.asarray(image).astype(np.int64)
        peak = 65535 if values.max(initial=0) > 255 or image.mode.startswith("I;16") else 255
        return Image.fromarray((values.clip(0, peak) * 255 // peak).astype(np.uint8), "L")
    if image.mode == "F":
        values_f = np.asarray(image)
        if not np.isfinite(values_f).all() or values_f.min(initial=0) < 0 or values_f.max(initial=0) > 1:
            raise UnsupportedMediaError("a float image with values outside [0, 1]: scale it before stylizing")
        return Image.fromarray((values_f * 255).round().astype(np.uint8), "L")
    if "transparency" in image.info or image.mode == "PA":  # one color, or each of a palette
        return image.convert("RGBA")
    return image.convert("RGB") if image.mode in ("P", "1", "YCbCr", "LAB", "HSV") else image


def _to_srgb(image: Image.Image, icc_profile: bytes | None) -> Image.Image:
    """Convert to sRGB; no profile, and one that is broken or of another color model, is passed over."""
    if not icc_profile:
        return image
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(icc_profile))
        if "srgb" in ImageCms.getProfileDescription(profile).lower():
            return image
        alpha = image.convert("RGBA").getchannel("A") if image.mode in ("RGBA", "LA") else None
        opaque = image.convert({"RGBA": "RGB", "LA": "L"}.get(image.mode, image.mode))
        converted = ImageCms.profileToProfile(opaque, profile, _SRGB, outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError):
        return image
    if converted is not None and alpha is not None:
        converted.putalpha(alpha)
    return image if converted is None else converted
