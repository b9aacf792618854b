"""One image file: does it decode, and what is odd about it. Stricter than Pillow where another decoder would fail."""

from __future__ import annotations

import contextlib
import os
import re
import stat
import struct
import zlib
from enum import IntFlag
from pathlib import Path
from typing import BinaryIO, NamedTuple

from PIL import Image, UnidentifiedImageError

NOT_READABLE = "not readable"  # begins the reasons that may go without a change of the file: it is looked at again
ORIENTATION = 0x0112  # EXIF: 1 is upright, 2 to 8 are turned or mirrored
HEAD = 1 << 16  # bytes in which a header is looked for
DEEP = re.compile(r"\b(RGB|RGBA|RGBX|LA);16")  # rawmodes with 16 bits a channel; BGR;16 has 5 or 6
CLIPPED = {"I": "32-bit gray", "I;16": "16-bit gray", "I;16B": "16-bit gray", "I;16L": "16-bit gray", "F": "float gray"}
DALI_READS = {"JPEG", "MPO", "PNG", "BMP", "TIFF", "WEBP", "PPM", "JPEG2000"}
#: how a file begins, and what that means; the first five are images
SIGNATURES = (
    (rb"\xff\xd8\xff", "JPEG"),
    (rb"\x89PNG\r\n\x1a\n", "PNG"),
    (rb"GIF8[79]a", "GIF"),
    (rb"RIFF....WEBP", "WebP"),
    (rb"BM....\0\0\0\0|II\*\0|MM\0\*|P[1-6]\s|\0\0\0\x0cjP|....ftypavi", "image"),
    (rb"\0+$", "nothing but zeros"),
    (rb"version https://git-lfs", "a pointer of Git LFS, not the file"),
    (rb"\0\x05\x16\x07", "what macOS keeps beside a file"),
    (rb"....ftyp(hei|hev|mif|msf)", "HEIC"),
    (rb"PK\x03\x04", "a ZIP archive"),
    (rb"\x1f\x8b", "a gzip archive"),
    (rb"%PDF", "PDF"),
    (rb"(\xef\xbb\xbf)?\s*<", "HTML, SVG or XML"),
    (rb"[\t\n\r -~]+$", "text"),
)
IMAGES = 5
NO_PIXELS = re.compile(
    rb"\x89PNG.{8}IHDR(\0{4}|.{4}\0{4})|GIF8[79]a(\0\0|..\0\0)|BM.{16}(\0{4}|.{4}\0{4})|P[56]\s+(0\s|\d+\s+0\s)"
    rb"|\xff\xd8.*?\xff[\xc0-\xc2]..\x08(\0\0|..\0\0)",
    re.S,
)


class Note(IntFlag):
    """What is odd about an image that decodes."""

    EXTENSION = 1
    CMYK = 2
    PALETTE = 4
    ALPHA = 8
    DEEP = 16
    FRAMES = 32
    ROTATED = 64
    HUGE = 128
    NOT_DALI = 256


SAID = {
    Note.EXTENSION: "another kind of image than the extension says: read by content",
    Note.CMYK: "CMYK: converted to RGB",
    Note.PALETTE: "with a palette: converted to RGB",
    Note.ALPHA: "with transparency: it is dropped, the colours below are used",
    Note.DEEP: "16 bits a channel: the high 8 are used",
    Note.FRAMES: "animated, or of several pages: the first one is used",
    Note.ROTATED: "with an EXIF rotation: not applied, pixels are used as they are stored",
    Note.HUGE: "very large: Pillow warns of a decompression bomb, they are used",
    Note.NOT_DALI: "not for DALI (GIF, 1-bit TIFF, damage that Pillow passes over, …): other engines read them",
}


class Verdict(NamedTuple):
    """Why a file must not be read ("kind: detail"; empty if it may), and what is odd about one that may."""

    reason: str = ""
    notes: Note = Note(0)


def inspect(path: str | Path) -> Verdict:
    """Decode the first frame of a file completely, and at its full size.

    What is clean decodes in the engines that use Pillow, and, without ``Note.NOT_DALI``, in DALI: tried with thousands
    of damaged files of every kind. A TIFF with damaged tags may be the exception: DALI minds them, Pillow does not.
    """
    path = os.fspath(path)
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            return Verdict(f"{NOT_READABLE}: not a file")  # reading from a pipe might never end
        if status.st_size == 0:
            return Verdict("empty file")
        with Image.open(path) as image:
            verdict = _decoded(image, path)
            if image.format == "PNG" and not verdict.reason:
                with open(path, "rb") as file:
                    return Verdict(reason) if (reason := _png_fault(file)) else verdict
            return verdict
    except MemoryError:
        return Verdict(f"{NOT_READABLE}: not enough memory to decode it")
    except Exception as error:  # decoders raise anything on damaged files, and the scan has to go on
        return Verdict(" ".join(_reason(path, error).split()))  # on one line, without tabs


def too_deep(image: Image.Image) -> str:
    """Return why an image has no 8-bit colours; an empty text if it has."""
    return f"{CLIPPED[image.mode]}: becomes white above 255; convert it to 8 bits" if image.mode in CLIPPED else ""


def _decoded(image: Image.Image, path: str) -> Verdict:
    if 0 in image.size:
        return Verdict("zero size")
    if reason := too_deep(image):
        return Verdict(reason)
    raw = str(image.tile)  # load() forgets it
    image.load()
    if image.mode != "RGB":
        image.crop((0, 0, 1, 1)).convert("RGB")  # raises if there is no way to RGB
    later = turned = whole = False
    with contextlib.suppress(Exception):  # damage in what the engines do not read: EXIF, later frames
        turned = image.getexif().get(ORIENTATION, 1) in range(2, 9)
    with contextlib.suppress(Exception):
        later = getattr(image, "is_animated", False)
        whole = not (later and image.format == "WEBP") or _whole(image)
        whole &= image.format not in ("JPEG", "MPO") or _tidy(path)
    expected = Image.registered_extensions().get(os.path.splitext(path)[1].lower())
    odd = (
        (expected != {"MPO": "JPEG"}.get(image.format, image.format), Note.EXTENSION),
        (image.mode == "CMYK", Note.CMYK),
        (image.mode in ("P", "PA"), Note.PALETTE),
        (image.has_transparency_data, Note.ALPHA),
        (DEEP.search(raw), Note.DEEP),
        (later, Note.FRAMES),
        (turned, Note.ROTATED),
        (image.width * image.height > (Image.MAX_IMAGE_PIXELS or float("inf")), Note.HUGE),
        (image.format not in DALI_READS or (image.format, image.mode) == ("TIFF", "1") or not whole, Note.NOT_DALI),
    )
    return Verdict("", Note(sum(int(note) for holds, note in odd if holds)))


def _whole(image: Image.Image) -> bool:
    """Tell whether all frames of an animation decode: DALI wants them to, and then uses the first."""
    try:
        for frame in range(image.n_frames):
            image.seek(frame)
            image.load()
    except Exception:  # whatever the decoder raises
        return False
    return True


def _tidy(path: str) -> bool:
    """Tell whether a JPEG's header goes from marker to marker: DALI refuses bytes between them, Pillow does not."""
    with open(path, "rb") as file:
        file.seek(2)
        while True:
            marker = file.read(2)
            while marker == b"\xff\xff":  # any number of them may stand before a marker
                marker = b"\xff" + file.read(1)
            if len(marker) < 2 or marker[0] != 0xFF:
                return False
            if marker[1] == 0xDA:  # the scan begins
                return True
            file.seek(int.from_bytes(file.read(2), "big") - 2, os.SEEK_CUR)


def _png_fault(file: BinaryIO) -> str:
    """Walk the chunks to the end: Pillow stops at the last pixel, DALI also wants what follows, and right checksums."""
    size = file.seek(0, os.SEEK_END)
    file.seek(8)
    while True:
        length, kind = struct.unpack(">I4s", file.read(8).ljust(8, b"\xff"))
        content = file.read(min(length, size) + 4)
        if len(content) < length + 4:
            return "truncated: the end of the PNG is missing"
        if kind == b"IEND":
            return ""
        needed = not kind[0] & 32  # a capital letter: no decoder may pass it over
        if needed and zlib.crc32(kind + content[:length]) != int.from_bytes(content[length:], "big"):
            return f"damaged: wrong checksum in the PNG, chunk {kind.decode('ascii', 'replace')}"


def _reason(path: str, error: Exception) -> str:
    """Put an error into words: "kind: detail"."""
    if isinstance(error, OSError) and error.errno is not None:  # the system's, not the decoder's
        broken = isinstance(error, FileNotFoundError) and os.path.islink(path)
        return f"{NOT_READABLE}: {'broken link' if broken else os.strerror(error.errno)}"
    if isinstance(error, Image.DecompressionBombError):
        return f"too large: {error}"
    words = str(error) or type(error).__name__
    try:
        with open(path, "rb") as file:
            head = file.read(HEAD)
            file.seek(-2, os.SEEK_END)
            tail, size = file.read(), file.tell()
    except OSError as refused:
        return f"{NOT_READABLE}: {refused.strerror}"
    named = [i for i, (begin, _) in enumerate(SIGNATURES) if re.match(begin, head, re.S)]
    if not named or named[0] >= IMAGES:
        return f"not an image: {SIGNATURES[named[0]][1] if named else 'unknown content'}"
    if NO_PIXELS.match(head):
        return "zero size"
    kind = SIGNATURES[named[0]][1]
    short = {
        "JPEG": tail != b"\xff\xd9",
        "GIF": not tail.endswith(b";"),
        "WebP": size < 8 + int.from_bytes(head[4:8], "little"),
    }.get(kind, False)
    if isinstance(error, UnidentifiedImageError):
        words = f"the header of the {kind} is not complete or not right"
    return f"{'truncated' if short or 'truncated' in words.lower() else 'damaged'}: {words}"
