"""Image files: every kind is decoded, damaged ones are named and counted, none is magnified."""

import io
import random

import numpy as np
import pytest
import torch
from PIL import Image

from cassle.data import source as data_source
from cassle.data.source import ArraySource, FileSource, decode
from cassle.errors import DataError


def source(paths) -> FileSource:
    return FileSource(list(paths), torch.arange(len(paths)), torch.zeros(len(paths), dtype=torch.int64))


@pytest.mark.parametrize(
    "mode, suffix",
    [("L", ".png"), ("1", ".png"), ("P", ".gif"), ("LA", ".png"), ("RGBA", ".png"),
     ("CMYK", ".jpg"), ("L", ".jpg"),
     ("RGB", ".webp"), ("RGB", ".bmp"), ("RGB", ".tiff"), ("RGB", ".ppm"), ("L", ".pgm")],
)  # fmt: skip
def test_every_kind_of_image_becomes_rgb(tmp_path, noise_image, mode, suffix):
    path = tmp_path / f"a{suffix}"
    noise_image(path, mode=mode)
    images = source([path]).load(8, workers=1)
    assert images.skipped == [] and images.pixels.shape == (1, 3, 8, 8) and images.pixels.dtype == torch.uint8
    if mode in ("L", "1", "LA"):
        assert torch.equal(images.pixels[:, 0], images.pixels[:, 2])


def test_gray_with_more_than_8_bits_is_skipped(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(np.full((8, 10), 700, dtype=np.uint16)).save(path)
    assert "16-bit gray: becomes white above 255" in decode(path, torch.empty(3, 8, 8, dtype=torch.uint8), 8)


def test_the_first_frame_of_an_animation(tmp_path):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    pixels = source([tmp_path / "a.gif"]).load(8, workers=1).pixels
    assert (pixels[0, 0] > 200).all() and (pixels[0, 2] < 50).all()


def test_pixels_of_the_right_size_are_kept_exactly(tmp_path, noise_image):
    path = noise_image(tmp_path / "a.png", (8, 8))
    expected = torch.from_numpy(np.asarray(Image.open(path)).copy()).permute(2, 0, 1)
    assert torch.equal(source([path]).load(8, workers=1).pixels[0], expected)


def test_the_centre_is_kept(tmp_path):
    values = np.zeros((10, 30, 3), dtype=np.uint8)
    values[:, 10:20] = 255
    Image.fromarray(values).save(tmp_path / "a.png")
    assert (source([tmp_path / "a.png"]).load(10, workers=1).pixels == 255).all()


def test_labels_stay_with_their_images(tmp_path):
    for i in range(6):
        Image.new("RGB", (4, 4), (i, i, i)).save(tmp_path / f"{i}.png")
    images = source([tmp_path / f"{i}.png" for i in range(6)]).load(4, workers=3)
    assert torch.equal(images.pixels[:, 0, 0, 0].long(), images.targets)


@pytest.mark.parametrize(
    "shorter, size, stored",
    [(8, 32, 8), (256, 224, 256), (300, 224, 256), (240, 224, 240), (40, 32, 37)],
)
def test_the_side_of_stored_images(tmp_path, shorter, size, stored):
    Image.new("RGB", (shorter + 10, shorter)).save(tmp_path / "a.png")
    assert source([tmp_path / "a.png"]).side(size) == stored


def test_the_side_follows_the_median_of_readable_images(tmp_path, noise_image):
    paths = [noise_image(tmp_path / f"{n}.png", (n, n)) for n in (10, 20, 90)]
    (tmp_path / "broken.png").write_text("no image")
    assert source([tmp_path / "broken.png", *paths]).side(224) == 20
    assert source([tmp_path / "broken.png"]).side(32) == 32


def test_a_few_damaged_images_are_skipped_by_name(tmp_path, noise_image, truncated_image):
    good = [noise_image(tmp_path / f"{i:03}.png", seed=i) for i in range(99)]
    bad = truncated_image(tmp_path / "bad.jpg")
    images = source([*good[:50], bad, *good[50:]]).load(8, workers=2)
    assert len(images.skipped) == 1 and images.skipped[0].startswith(f"{bad}: ") and "truncated" in images.skipped[0]
    assert images.targets.tolist() == [i for i in range(100) if i != 50]
    assert len(images.pixels) == len(images.domains) == 99


@pytest.mark.parametrize("bad", [[0], [4], [9], [0, 1, 5], [2, 3, 4, 9], [*range(9)], []])
def test_the_good_rows_are_moved_without_a_copy(bad, monkeypatch):
    monkeypatch.setattr(data_source, "CHUNK", 3)
    pixels = torch.arange(10 * 3 * 2 * 2).reshape(10, 3, 2, 2).to(torch.uint8)
    good = torch.tensor([i for i in range(10) if i not in bad], dtype=torch.int64)
    expected = pixels[good]
    moved = data_source.moved_up(pixels, good)
    assert torch.equal(moved, expected) and moved.data_ptr() == pixels.data_ptr()
    assert len(data_source.moved_up(pixels, good[:0])) == 0


def test_the_pixels_of_a_damaged_set_lie_where_they_were_decoded(tmp_path, noise_image, monkeypatch):
    monkeypatch.setattr(data_source, "MAX_DAMAGED", 0.5)
    paths = [noise_image(tmp_path / f"{i}.png", (8, 8), seed=i) for i in range(3)]
    paths[0].write_bytes(b"")
    images = source(paths).load(8, workers=1)
    assert images.pixels.untyped_storage().nbytes() == 3 * 3 * 8 * 8  # a copy would have two rows
    assert torch.equal(images.pixels, source(paths[1:]).load(8, workers=1).pixels)


def test_more_than_one_percent_damaged_is_refused(tmp_path, noise_image, truncated_image):
    good = [noise_image(tmp_path / f"{i:03}.png", seed=i) for i in range(98)]
    bad = [truncated_image(tmp_path / "bad.jpg"), tmp_path / "empty.png"]
    bad[1].write_bytes(b"")
    with pytest.raises(DataError) as caught:
        source([*good, *bad]).load(8, workers=2)
    text = str(caught.value)
    assert "2 of 100 images do not decode, more than 1%" in text and "--data_dir" in text
    assert all(str(path) in text for path in bad)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL", "ignore:.*could be decompression bomb:Warning")
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "WEBP", "PPM", "TIFF", "GIF"])
def test_no_damage_gets_through_as_an_exception(tmp_path, kind):
    """Cut and garble files at many places: each is an image, or a reason why not."""
    draws = random.Random(0)
    buffer = io.BytesIO()
    values = np.random.default_rng(0).integers(0, 256, (12, 10, 3), dtype=np.uint8)
    Image.fromarray(values).save(buffer, kind)
    data, path, out = buffer.getvalue(), tmp_path / "image", torch.empty(3, 8, 8, dtype=torch.uint8)
    for place in range(0, len(data), max(1, len(data) // 60)):
        for damaged in (data[:place], data[:place] + draws.randbytes(1) + data[place + 1 :]):
            path.write_bytes(damaged)
            assert isinstance(decode(path, out, 8), str)
            assert source([path]).side(8) >= 0
    path.write_bytes(b"P6\n99999999999999\n2\n255\n")
    assert decode(path, out, 8)
    assert source([path]).side(8) == 8


def test_arrays_are_handed_over_as_they_are():
    pixels = torch.zeros(2, 3, 8, 8, dtype=torch.uint8)
    arrays = ArraySource(pixels, torch.arange(2), torch.zeros(2, dtype=torch.int64))
    assert arrays.side(224) == 8
    assert arrays.load(8, workers=1).pixels is pixels
