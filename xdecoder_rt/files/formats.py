"""What a file is, by its first bytes."""

from __future__ import annotations

from xdecoder_rt.errors import quoted

__all__ = [
    "DECODED_FORMATS",
    "HEAD_SIZE",
    "IMAGE_SUFFIXES",
    "beginning",
    "describe",
    "image_format",
]

HEAD_SIZE = 64
"""How many bytes of a file tell its format."""

# Decoders are attack surface: only the formats of photographs, none that runs another program.
DECODED_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "PPM")
"""Formats that are decoded, under Pillow's names; PPM stands for PGM and PBM, too."""

IMAGE_SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".mpo", ".png", ".apng", ".webp", ".bmp", ".dib"),
    *(".tif", ".tiff", ".gif", ".ppm", ".pgm", ".pbm", ".pnm"),
)
"""How names of files of these formats end."""

_SIGNATURES = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"BM", "BMP"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    *((signature, "TIFF") for signature in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")),
    *((b"P%d%c" % (kind, space), "PPM") for kind in range(1, 7) for space in b" \t\n\v\f\r#"),
)
_OTHERS = (
    (b"%PDF", "a PDF document"),
    (b"%!PS", "a PostScript file"),
    (b"\xc5\xd0\xd3\xc6", "a PostScript file (EPS)"),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "a JPEG 2000 image"),
    (b"\xff\x4f\xff\x51", "a JPEG 2000 image"),
    (b"\0\0\0\x0cJXL \r\n\x87\n", "a JPEG XL image"),
    (b"\xff\x0a", "a JPEG XL image"),
    (b"8BPS", "a Photoshop image"),
    (b"\0\0\1\0", "an icon (ICO)"),
    (b"icns", "an icon (ICNS)"),
    (b"\x76\x2f\x31\x01", "an OpenEXR image"),
    (b"#?RADIANCE", "a Radiance HDR image"),
    (b"SIMPLE  =", "a FITS image"),
    (b"DDS ", "a DDS texture"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"\x1f\x8b", "a gzip file"),
    (b"\x1aE\xdf\xa3", "a video (Matroska or WebM)"),
    (b"version https://git-lfs", "a pointer of Git LFS, not the file that it stands for"),
    (b"<svg", "an SVG drawing"),
    (b"<?xml", "an XML file"),
    (b"<!DOCTYPE", "a web page"),
    (b"<html", "a web page"),
)
_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_PILLOW_HEIF = (
    "convert it to JPEG or PNG, or install pillow-heif and give its pixels: "
    "pillow_heif.open_heif(path).to_pillow()"
)
_PILLOW_AVIF = "convert it to JPEG or PNG, or give a Pillow image (11.3 or later opens AVIF)"
_CONVERT = "convert it to JPEG or PNG"


def image_format(head: bytes) -> str | None:
    """Return which of `DECODED_FORMATS` a file is by its first `HEAD_SIZE` bytes, or None."""
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    return next((name for start, name in _SIGNATURES if head.startswith(start)), None)


def describe(head: bytes) -> tuple[str, str | None]:
    """Say what a file is that is none of `DECODED_FORMATS`, and what to do with it.

    Args:
        head: its first `HEAD_SIZE` bytes.

    Returns:
        The end of a sentence ("is an AVIF image"), and an imperative where there is advice.
    """
    if not head:
        return "is empty", None
    if head[4:8] == b"ftyp":
        brands = {head[8:12], *(head[at : at + 4] for at in range(16, len(head), 4))}
        if brands & {b"avif", b"avis"}:
            return "is an AVIF image", _PILLOW_AVIF
        if brands & {*_HEIF_BRANDS}:
            return "is an HEIC image", _PILLOW_HEIF
        return "is a video (MP4 or QuickTime)", "give its frames, or use: xdecoder-rt demo"
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    for start, words in _OTHERS:
        if head.startswith(start) or (start[:1] == b"<" and text.startswith(start)):
            return f"is {words}", _CONVERT if "image" in words or "draw" in words else None
    return "is not an image of a known format", None


def beginning(text: bytes) -> str:
    """Quote the beginning of a text that came instead of a file, in one line, whatever it holds."""
    return quoted(" ".join(text[:80].decode("utf-8", "replace").split()), 50)
