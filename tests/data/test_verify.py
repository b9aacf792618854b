"""Every kind of damage is told apart, what decodes stays, and only what has changed is looked at again."""

import io
import os
import signal
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_image

from cassle.data import inspection, verified, verify
from cassle.data.file_list import read_list
from cassle.data.inspection import Note, Verdict, inspect
from cassle.data.source import decode
from cassle.data.verified import CLEAN, QUARANTINE, VERIFIED, Verified, clean
from cassle.errors import ConfigError


def encoded(kind: str, mode: str = "RGB", size: tuple[int, int] = (24, 16), **options) -> bytes:
    values = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(values).convert(mode).save(buffer, kind, **options)
    return buffer.getvalue()


def png(width: int, height: int, depth: int, colour: int, rows: bytes) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def verdict(path: Path, data: bytes) -> Verdict:
    path.write_bytes(data)
    return inspect(path)


JPEG, PNG, GIF, WEBP = (encoded(kind) for kind in ("JPEG", "PNG", "GIF", "WEBP"))
BOMB = png(20_000, 20_000, 8, 2, b"")
NO_SIZE = JPEG.replace(JPEG[JPEG.find(b"\xff\xc0") :][:9], JPEG[JPEG.find(b"\xff\xc0") :][:5] + bytes(4))
FLIPPED = PNG[:60] + bytes([PNG[60] ^ 1]) + PNG[61:]


@pytest.mark.parametrize(
    "name, data, reason",
    [
        ("a.jpg", b"", "empty file"),
        ("a.jpg", JPEG[: len(JPEG) // 2], "truncated: "),
        ("a.jpg", JPEG[:-2], "truncated: "),
        ("a.jpg", JPEG[:4], "truncated: the header of the JPEG"),
        ("a.jpg", JPEG[:100], "truncated: "),
        ("a.png", PNG[:200], "truncated: "),
        ("a.png", PNG[:-6], "truncated: the end of the PNG"),  # Pillow does not mind, DALI does
        ("a.gif", GIF[:700], "truncated: "),
        ("a.webp", WEBP[:-20], "truncated: "),
        ("a.bmp", encoded("BMP")[:300], "truncated: "),
        ("a.tif", encoded("TIFF")[:300], "truncated: "),
        ("a.ppm", encoded("PPM")[:300], "truncated: "),
        ("a.png", FLIPPED, "damaged: "),
        ("a.jpg", b"hello, this is a text\n", "not an image: text"),
        ("a.jpg", b"<!DOCTYPE html><html>404", "not an image: HTML"),
        ("a.jpg", b"version https://git-lfs.github.com/spec/v1\n", "not an image: a pointer of Git LFS"),
        ("a.jpg", bytes(5000), "not an image: nothing but zeros"),
        ("._a.jpg", b"\0\5\x16\7\0\2\0\0Mac OS X", "not an image: what macOS keeps"),
        ("a.heic.jpg", b"\0\0\0\x18ftypheic\0\0\0\0", "not an image: HEIC"),
        ("a.jpg", b"\x80\x81\x82" * 30, "not an image: unknown content"),
        ("a.png", png(0, 0, 8, 2, b""), "zero size"),
        ("a.jpg", NO_SIZE, "zero size"),
        ("a.gif", b"GIF89a" + bytes(7) + b";", "zero size"),
        ("a.ppm", b"P6\n0 4\n255\n", "zero size"),
        ("a.png", BOMB, "too large: Image size (400000000 pixels)"),
        ("a.png", png(2, 1, 16, 0, b"\0" + bytes([2, 188] * 2)), "16-bit gray: "),
        ("a.tif", encoded("TIFF", "I"), "32-bit gray: "),
        ("a.tif", encoded("TIFF", "F"), "float gray: "),
    ],
)
def test_what_goes_to_quarantine(tmp_path, name, data, reason):
    found = verdict(tmp_path / name, data)
    assert found.reason.startswith(reason) and found.notes == 0
    assert "\t" not in found.reason and "\n" not in found.reason and "0x" not in found.reason


EXIF = Image.Exif()
EXIF[inspection.ORIENTATION] = 6
UPRIGHT = Image.Exif()
UPRIGHT[inspection.ORIENTATION] = 1
MORE = {"save_all": True, "append_images": [Image.new("RGB", (24, 16))]}


@pytest.mark.parametrize(
    "name, data, notes",
    [
        ("a.jpg", JPEG, 0),
        ("a.JPEG", JPEG, 0),
        ("a.jpg", encoded("JPEG", "L"), 0),
        ("a.jpg", JPEG + b"something behind it", 0),
        ("a.jpg", PNG, Note.EXTENSION),
        ("a.png", JPEG, Note.EXTENSION),
        ("a.jpg", encoded("JPEG", "CMYK"), Note.CMYK),
        ("a.tiff", encoded("TIFF", "CMYK"), Note.CMYK),
        ("a.png", encoded("PNG", "P"), Note.PALETTE),
        ("a.png", encoded("PNG", "LA"), Note.ALPHA),
        ("a.webp", encoded("WEBP", "RGBA", lossless=True), 0),  # opaque: the format stores no transparency
        ("a.png", png(2, 1, 16, 2, b"\0" + bytes(12)), Note.DEEP),
        ("a.gif", GIF, Note.PALETTE | Note.NOT_DALI),
        ("a.gif", encoded("GIF", **MORE), Note.PALETTE | Note.NOT_DALI | Note.FRAMES),
        ("a.webp", encoded("WEBP", **MORE), Note.FRAMES),
        ("a.png", encoded("PNG", **MORE), Note.FRAMES),
        ("a.tif", encoded("TIFF", **MORE), Note.FRAMES),
        ("a.jpg", encoded("MPO", **MORE), Note.FRAMES),
        ("a.tif", encoded("TIFF", "1"), Note.NOT_DALI),
        ("a.jpg", JPEG[:20] + b"\0" + JPEG[20:], Note.NOT_DALI),
        ("a.jpg", JPEG[:20] + b"\xff\xff" + JPEG[20:], 0),  # fill bytes are in the standard
        ("a.jpg", encoded("JPEG", exif=EXIF), Note.ROTATED),
        ("a.jpg", encoded("JPEG", exif=UPRIGHT), 0),
    ],
)
def test_what_is_clean_and_odd(tmp_path, name, data, notes):
    assert verdict(tmp_path / name, data) == Verdict("", Note(notes))
    assert decode(tmp_path / name, torch.empty(3, 8, 8, dtype=torch.uint8), 8) == ""


def test_a_huge_image_is_noted(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 300)
    with pytest.warns(Image.DecompressionBombWarning):
        assert verdict(tmp_path / "a.jpg", JPEG).notes == Note.HUGE
    assert verify.look([tmp_path / "a.jpg"])[0].notes == Note.HUGE  # and without the warning


def test_damage_beyond_the_first_frame_is_for_dali_only(tmp_path):
    size = (64, 48)
    noise = Image.effect_noise(size, 90).convert("RGB")
    data = encoded("WEBP", size=size, save_all=True, append_images=[noise])
    assert verdict(tmp_path / "a.webp", data) == Verdict("", Note.FRAMES)
    second = data.rfind(b"VP8 ") + 40  # behind its header
    spoilt = data[:second] + b"\xff" * (len(data) - second)
    assert verdict(tmp_path / "a.webp", spoilt) == Verdict("", Note.FRAMES | Note.NOT_DALI)
    assert decode(tmp_path / "a.webp", torch.empty(3, 8, 8, dtype=torch.uint8), 8) == ""


def test_how_the_engines_decode_what_is_noted(tmp_path):
    """The words of the notes: right colours of CMYK, high bytes, colours under transparency, pixels as stored."""
    photo = Image.fromarray(load_sample_image("china.jpg")).resize((64, 64))
    out, plain = torch.empty(2, 3, 64, 64, dtype=torch.uint8), torch.from_numpy(np.array(photo)).permute(2, 0, 1)
    photo.convert("CMYK").save(tmp_path / "cmyk.jpg", quality=95)
    photo.convert("CMYK").save(tmp_path / "cmyk.tif")
    for name in ("cmyk.jpg", "cmyk.tif"):
        assert decode(tmp_path / name, out[0], 64) == ""
        assert (out[0].float() - plain.float()).abs().mean() < 4  # an inverted one differs by more than 80
    photo.save(tmp_path / "turned.png", exif=EXIF)
    assert decode(tmp_path / "turned.png", out[0], 64) == "" and torch.equal(out[0], plain)
    (tmp_path / "deep.png").write_bytes(png(64, 64, 16, 2, (b"\0" + bytes([200, 7] * 3 * 64)) * 64))
    assert decode(tmp_path / "deep.png", out[0], 64) == "" and (out[0] == 200).all()
    Image.new("RGBA", (64, 64), (9, 8, 7, 6)).save(tmp_path / "clear.png")
    assert inspect(tmp_path / "clear.png").notes == Note.ALPHA
    assert decode(tmp_path / "clear.png", out[0], 64) == "" and out[0, :, 0, 0].tolist() == [9, 8, 7]


def test_what_the_system_refuses(tmp_path, monkeypatch):
    (tmp_path / "broken.jpg").symlink_to("nowhere.jpg")
    assert inspect(tmp_path / "broken.jpg").reason == "not readable: broken link"
    (tmp_path / "loop.jpg").symlink_to("loop.jpg")
    assert inspect(tmp_path / "loop.jpg").reason.startswith("not readable: ")
    os.mkfifo(tmp_path / "pipe.jpg")
    assert inspect(tmp_path / "pipe.jpg").reason == "not readable: not a file"  # and it returns

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    (tmp_path / "a.jpg").write_bytes(JPEG)
    monkeypatch.setattr(Image, "open", refuse)
    assert inspect(tmp_path / "a.jpg").reason == "not readable: Permission denied"
    monkeypatch.setattr(Image, "open", lambda *_: bytearray(1 << 62))
    assert inspect(tmp_path / "a.jpg").reason.startswith("not readable: not enough memory")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "WEBP", "PPM", "GIF"])
def test_what_is_clean_decodes_in_every_engine(tmp_path, kind):
    path, out = tmp_path / f"a.{kind.lower()}", torch.empty(3, 8, 8, dtype=torch.uint8)
    data, draws = encoded(kind), np.random.default_rng(0)
    for place in draws.integers(0, len(data), 80).tolist():
        for damaged in (data[:place], data[:place] + draws.bytes(1) + data[place + 1 :]):
            path.write_bytes(damaged)
            (found,) = verify.look([path])
            assert found.reason or decode(path, out, 8) == ""


@pytest.fixture
def tree(tmp_path) -> Path:
    """Return a folder with six clean files, and one each of empty, truncated and no image."""
    root = tmp_path / "images"
    (root / "train" / "cat").mkdir(parents=True)
    for i in range(6):
        (root / "train" / "cat" / f"{i}.jpg").write_bytes(JPEG)
    (root / "train" / "empty.PNG").write_bytes(b"")
    (root / "short.jpeg").write_bytes(JPEG[:300])
    (root / "text.gif").write_text("text")
    (root / "notes.txt").write_text("no image, and not called one")
    return root


def lists(folder: Path) -> tuple[list[str], dict[str, str]]:
    rows = [line.split("\t") for line in (folder / QUARANTINE).read_text().splitlines()]
    return (folder / CLEAN).read_text().splitlines(), dict(rows)


def test_the_lists(tree):
    seen = []
    report = verify.verify(tree, num_workers=2, advance=lambda done, total: seen.append((done, total)))
    good, bad = lists(tree)
    assert good == [f"train/cat/{i}.jpg" for i in range(6)] and (tree / verify.LOCK).is_file()
    assert {path: reason.partition(":")[0] for path, reason in bad.items()} == {
        "short.jpeg": "truncated", "text.gif": "not an image", "train/empty.PNG": "empty file",
    }  # fmt: skip
    assert (report.looked_at, report.quarantined, len(report.verified)) == (9, 3, 9)
    assert seen == [(i + 1, 9) for i in range(9)]
    text = "\n".join(report.lines())
    assert "9 image files, 6 clean, 3 in quarantine (9 looked at, 0 known" in text and "truncated" in text
    rows = read_list(tree / CLEAN)  # it is a list for `--dataset list`
    assert len(rows) == 6 and rows.num_classes == 0


def test_only_changes_are_looked_at_again(tree, monkeypatch):
    verify.verify(tree)
    looked = []
    monkeypatch.setattr(verify, "inspect", lambda path: looked.append(os.path.relpath(path, tree)) or inspect(path))
    assert verify.verify(tree).looked_at == 0 and looked == []
    (tree / "short.jpeg").write_bytes(JPEG)  # repaired: another size
    status = os.stat(tree / "train" / "cat" / "0.jpg")
    (tree / "train" / "cat" / "0.jpg").write_bytes(bytes(len(JPEG)))  # spoilt: the same size at another time
    os.utime(tree / "train" / "cat" / "0.jpg", ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    (tree / "train" / "cat" / "1.jpg").unlink()
    (tree / "new.jpg").write_bytes(JPEG)
    assert verify.verify(tree).looked_at == 3
    assert sorted(looked) == ["new.jpg", "short.jpeg", "train/cat/0.jpg"]
    good, bad = lists(tree)
    assert good == ["new.jpg", "short.jpeg", *(f"train/cat/{i}.jpg" for i in (2, 3, 4, 5))]
    assert set(bad) == {"text.gif", "train/cat/0.jpg", "train/empty.PNG"}


def test_what_could_not_be_read_is_tried_again(tree, monkeypatch):
    """Permissions and links are mended without a change of the file's own time."""
    refused = Verdict("not readable: Permission denied")
    monkeypatch.setattr(verify, "inspect", lambda path: refused if "5.jpg" in path else inspect(path))
    assert verify.verify(tree).quarantined == 4
    monkeypatch.undo()
    report = verify.verify(tree)
    assert (report.looked_at, report.quarantined) == (1, 3)


@pytest.mark.parametrize("spoil", ["garbage", "half", "rules"])
def test_a_spoilt_record_is_made_anew(tree, spoil, monkeypatch):
    verify.verify(tree)
    data = (tree / VERIFIED).read_bytes()
    if spoil == "rules":
        monkeypatch.setattr(verified, "RULES", verified.RULES + 1)
    else:
        (tree / VERIFIED).write_bytes(b"garbage" if spoil == "garbage" else data[: len(data) // 2])
    assert verify.verify(tree).looked_at == 9
    assert verify.verify(tree).looked_at == 0


KILLED = """
import os, signal, sys
from pathlib import Path
from cassle.data.verify import verify
def advance(done, total):
    if done == 5:
        os.kill(os.getpid(), signal.SIGKILL)
verify(Path(sys.argv[1]), num_workers=1, advance=advance, save_every=0)
"""


def test_a_killed_scan_goes_on(tree):
    code = subprocess.run([sys.executable, "-c", KILLED, tree], cwd=Path(__file__).parents[2]).returncode
    assert code == -signal.SIGKILL
    report = verify.verify(tree)
    assert (report.looked_at, len(report.verified), report.quarantined) == (5, 9, 3)


def test_an_interrupted_scan_keeps_what_it_knows(tree):
    def advance(done: int, total: int) -> None:
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        verify.verify(tree, num_workers=1, advance=advance)
    assert not (tree / CLEAN).exists()  # half a list would look like a whole one
    assert verify.verify(tree).looked_at == 4


def test_links(tree, tmp_path):
    """Links to classes are followed, links back up are not, broken ones are named."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "a.jpg").write_bytes(JPEG)
    (tree / "train" / "dog").symlink_to(tmp_path / "elsewhere")
    (tree / "train" / "up").symlink_to(tree)
    (tree / "train" / "self").symlink_to("self")
    (tree / "broken.jpg").symlink_to("nowhere")
    verify.verify(tree)
    good, bad = lists(tree)
    assert "train/dog/a.jpg" in good and len(good) == 7
    assert bad["broken.jpg"] == "not readable: broken link" and len(bad) == 4
    (tree / "nowhere").write_bytes(JPEG)
    verify.verify(tree)
    assert "broken.jpg" in lists(tree)[0]


def test_a_folder_that_cannot_be_read_is_named(tree, monkeypatch):
    scandir = os.scandir

    def refuse(place):
        if str(place).endswith("cat"):
            raise PermissionError(13, "Permission denied")
        return scandir(place)

    monkeypatch.setattr(os, "scandir", refuse)
    verify.verify(tree)
    assert lists(tree)[1]["train/cat"] == "not readable: Permission denied (a folder: nothing in it was looked at)"
    monkeypatch.undo()
    assert verify.verify(tree).quarantined == 3


def test_odd_names(tree):
    names = ["tab\t.jpg", "ü.jpg", os.fsdecode(b"latin\xfc.jpg"), "line\nbreak.jpg"]
    for name in names:
        (tree / name).write_bytes(JPEG)
    assert verify.verify(tree).quarantined == 4 and verify.verify(tree).looked_at == 0
    written = (tree / CLEAN).read_bytes().split(b"\n")
    assert all(os.fsencode(name) in written for name in names[:3])
    assert b"line\\nbreak.jpg\tnot fit for a list" in (tree / QUARANTINE).read_bytes()
    assert len(clean(tree, [tree / name for name in names]).good) == 3


def test_lists_in_another_folder(tree, tmp_path, monkeypatch):
    other = tmp_path / "lists" / "images"
    verify.verify(tree, other)
    assert len(lists(other)[0]) == 6 and not (tree / VERIFIED).exists()
    assert verify.verify(tree, other).looked_at == 0
    assert clean(tree, [tree / "short.jpeg"], lists=other).good == []
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "a.jpg").write_bytes(JPEG)
    with pytest.raises(ConfigError, match="holds the lists of"):
        verify.verify(tmp_path / "more", other)
    moved = tree.rename(tmp_path / "moved")
    verify.verify(moved)
    again = moved.rename(tmp_path / "again")  # lists in the folder itself move with it
    assert verify.verify(again).looked_at == 0


@pytest.mark.parametrize("case, said", [("missing", "no such folder"), ("none", "no images"), ("place", "--out")])
def test_what_cannot_be_scanned(tree, tmp_path, case, said):
    (tmp_path / "empty").mkdir()
    folder = {"missing": tmp_path / "missing", "none": tmp_path / "empty", "place": tree}[case]
    with pytest.raises(ConfigError, match=said):
        verify.verify(folder, tree / "notes.txt" if case == "place" else None)


def test_what_engines_ask(tree, tmp_path):
    names = ["train/cat/0.jpg", "short.jpeg", "train/cat/1.jpg", "train/cat/2.jpg", "text.gif"]
    paths = [tree / name for name in names]
    nothing = clean(tree, paths)
    assert (
        nothing.good == nothing.unknown == [0, 1, 2, 3, 4] and nothing.quarantined == nothing.damaged == {}
    )  # never verified
    (tree / "train" / "cat" / "0.jpg").write_bytes(encoded("JPEG", "CMYK"))
    verify.verify(tree)
    (tree / "train" / "cat" / "2.jpg").write_bytes(JPEG[:100])  # since then
    (tmp_path / "beside.jpg").write_bytes(JPEG)
    checked = clean(tree, [*paths, tmp_path / "beside.jpg"])
    assert checked.good == [0, 2, 3, 5] and checked.unknown == [3, 5] and checked.notes == {0: Note.CMYK}
    assert [line.partition(": ")[0] for line in checked.quarantined.values()] == [str(paths[1]), str(paths[4])]
    assert [bool(found.reason) for found in verify.look([paths[3], tmp_path / "beside.jpg"])] == [True, False]
    backwards = clean(tree, paths[::-1])
    assert backwards.good == [1, 2, 4] and backwards.unknown == [1]


def test_the_record_says_what_was_put_in(tmp_path):
    rows = [(f"{i * 7919 % 5000:04}.jpg", (i, 2 * i), Verdict("bad: x" if i % 7 == 0 else "", Note(i % 4)))
            for i in range(5000)]  # fmt: skip
    Verified.of(rows).save(tmp_path, tmp_path)
    loaded = Verified.load(tmp_path, tmp_path, "--out")
    for path, stamp, said in rows:  # in an order of their own
        assert loaded.get(path, stamp) == (said.reason, Note(0) if said.reason else said.notes)
        assert loaded.get(path, (stamp[0] + 1, stamp[1])) is loaded.get(path, (stamp[0], -1)) is None
    assert loaded.get("0000.jp", (0, 0)) is loaded.get("zzz", (0, 0)) is None
