"""One picture: from the bytes of a file to RGB."""

from __future__ import annotations

import struct
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, PngImagePlugin, UnidentifiedImageError, features

from lib.images import UnreadableImage

LARGEST = 1024  # pixels of the longest side; encoders see fewer

_AVIF = features.check("avif")
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP", *["AVIF"] * _AVIF)  # PIL would run Ghostscript for some others
SUFFIXES = tuple(".jpg .jpeg .jpe .jfif .jif .png .apng .webp .gif .bmp .tif .tiff".split()) + (".avif",) * _AVIF
# What pictures are also kept in, and is not decoded: such files are named in the log, and are no part of a set.
OTHERS = frozenset(
    ".avif .avifs .heic .heif .hif .jxl .jp2 .j2k .jpf .jpx .svg .ico .dib .pbm .pgm .ppm .pnm .tga .psd .exr .hdr "
    ".dds .dng .cr2 .cr3 .nef .arw .orf .rw2 .raf .pef .srw".split()
) - set(SUFFIXES)

# Editors leave their whole history in the text of a PNG; PIL would refuse the picture for a megabyte of it.
PngImagePlugin.MAX_TEXT_CHUNK, PngImagePlugin.MAX_TEXT_MEMORY = 1 << 28, 1 << 30

_POINTER = b"version https://git-lfs.github.com/spec/"  # how the stand-ins of `git lfs` begin

# What PIL raises for broken files. It takes some of these for signs of one itself, but only while it opens a file.
_BROKEN = (
    OSError,
    SyntaxError,
    ValueError,
    RuntimeError,
    struct.error,
    zlib.error,
    EOFError,
    IndexError,
    KeyError,
    TypeError,
    OverflowError,
    MemoryError,
    Image.DecompressionBombError,
)

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # EXIF orientation -> what puts the picture upright


def read(data: bytes | Path, name: str) -> Image.Image:
    """Decode a picture: RGB, upright, its longest side at most ``LARGEST`` pixels.

    Grey of 16 bits is scaled to 8; transparent pictures are laid on white; of animations the first frame is taken.

    Parameters
    ----------
    data : the file's contents, or where it is.
    name : what it is called in messages.

    Raises
    ------
    UnreadableImage
        If the file is missing, empty, truncated, otherwise broken, larger than PIL dares to decode, or no picture.
    """
    try:
        data = data.read_bytes() if isinstance(data, Path) else data
        if not data:
            raise UnreadableImage(name, "the file is empty")
        if data.startswith(_POINTER):
            raise UnreadableImage(name, "it stands for a picture that git has not fetched: run `git lfs pull` there")
        with Image.open(BytesIO(data), formats=FORMATS) as picture:
            if min(picture.size) < 1:
                raise UnreadableImage(name, f"it has no pixels ({picture.width} x {picture.height})")
            scale = LARGEST / max(picture.size)
            if scale < 1:  # a JPEG is then decoded at a fraction of its size; other formats ignore it
                picture.draft("RGB", (max(1, round(picture.width * scale)), max(1, round(picture.height * scale))))
            picture.load()
            out = _rgb(_upright(picture))
    except UnreadableImage:
        raise
    except UnidentifiedImageError as error:
        raise UnreadableImage(name, f"it is none of {', '.join(FORMATS)}") from error
    except _BROKEN as error:
        raise UnreadableImage(name, " ".join(str(error).split()) or type(error).__name__) from error
    out.thumbnail((LARGEST, LARGEST))
    out.info = {}  # colour profiles and notes of the camera are no part of the pixels
    return out


def _upright(picture: Image.Image) -> Image.Image:
    try:
        orientation = picture.getexif().get(ExifTags.Base.Orientation)
    except _BROKEN:
        return picture  # broken notes of the camera are no reason to lose the picture
    return picture.transpose(_TURNS[orientation]) if orientation in _TURNS else picture


def _rgb(picture: Image.Image) -> Image.Image:
    """Any mode as RGB, and a picture of its own that holds no file."""
    if picture.mode.startswith("I;16"):
        return _grey(np.asarray(picture) / 65535)  # PIL itself would clip at 255
    if picture.mode in ("I", "F"):  # 32 bits: there is no agreed white, so the brightest pixel is
        values = np.asarray(picture, dtype=np.float64)
        finite = values[np.isfinite(values)]
        if not finite.size:
            raise ValueError("no pixel holds a finite number")
        low, high = finite.min(), finite.max()
        values = np.nan_to_num(values, nan=low, posinf=high, neginf=low)
        return _grey((values - low) / ((high - low) or 1))
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")
    return picture.convert("RGB")


def _grey(values: np.ndarray) -> Image.Image:
    return Image.fromarray(np.round(values * 255).astype(np.uint8)).convert("RGB")
