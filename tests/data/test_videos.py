"""Streams of video frames: which frame a slot shows, that it is decoded once, and what broken files do."""

import sys

import av
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cassle.data import videos
from cassle.data.orders import draw_evenly
from cassle.data.video_file import Reader
from cassle.data.videos import VideoStream
from cassle.errors import ConfigError, DataError
from tests.data.test_streams import joined, same

SIDE = 16


def write(path, frames: int, *, codec: str = "mpeg4", gop: int = 12, first: int = 0, step: int = 2, turned: int = 0):
    """Write 10 frames a second, frame i gray with the value step * (first + i); ``turned``: white at the left edge."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=10)
        stream.width, stream.height, stream.pix_fmt, stream.codec_context.gop_size = 2 * SIDE, SIDE, "yuv420p", gop
        stream.bit_rate = 4_000_000  # hardly any loss
        if turned:
            stream.set_display_rotation(turned)
        container.start_encoding()
        for i in range(frames):
            image = np.full((SIDE, 2 * SIDE, 3), step * (first + i), dtype=np.uint8)
            if turned:
                image[:, :SIDE] = 255
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Five videos of 10 frames a second, 30, 20, 45, 6 and 25 of them, and files that are none."""
    root = tmp_path_factory.mktemp("videos")
    write(root / "a.mp4", 30)
    write(root / "b.avi", 20, first=30)
    write(root / "more/c10.mkv", 45, first=50)
    write(root / "more/c2.mp4", 6, first=95)
    write(root / "more/d.mp4", 25, first=101, codec="libx264")
    (root / "notes.txt").write_text("no video")
    (root / "half.mp4").write_bytes((root / "a.mp4").read_bytes()[:100])
    (root / "empty.mp4").write_bytes(b"")
    return root


def shades(chunk) -> list[int]:
    return (chunk.pixels.float().mean((1, 2, 3)) / 2).round().int().tolist()


CHOICES = [
    {"n_seq_samples": 8},
    {"n_seq_samples": 8, "seq_sampling": "random"},
    {"n_seq_samples": 8, "order": "decorrelated", "epochs": 2},
    {"n_seq_samples": 0},
]


def test_the_videos_of_a_folder(folder):
    stream = VideoStream(folder, side=SIDE, fps=10, n_seq_samples=8)
    assert stream.origin_names == ("a.mp4", "b.avi", "more/c2.mp4", "more/c10.mkv", "more/d.mp4")
    assert [video.num_frames for video in stream.videos] == [30, 20, 6, 45, 25]
    assert stream.num_origins == 5 and stream.length == 40
    skipped = dict(text.split(": ", 1) for text in stream.skipped_at_start)
    assert set(skipped) == {"notes.txt", "half.mp4", "empty.mp4"}
    assert "Invalid data" in skipped["half.mp4"]


@given(st.sampled_from(range(4)), st.lists(st.integers(0, 30), max_size=5), st.integers(0, 50))
@settings(max_examples=25)
def test_any_cut_into_chunks_reads_the_same(folder, choice, counts, start):
    stream, chunks, at = VideoStream(folder, side=4, seed=3, **CHOICES[choice]), [], start
    for count in counts:
        chunks.append(stream.read(at, count))
        at += count
    whole = VideoStream(folder, side=4, seed=3, num_workers=1, **CHOICES[choice]).read(start, at - start)
    assert not chunks or same(joined(chunks), whole)


def test_every_frame_at_a_rate(folder):
    stream = VideoStream(folder, side=SIDE, fps=5, n_seq_samples=0)
    chunk = stream.read(0, stream.length)
    assert stream.length == 15 + 10 + 3 + 23 + 13 and not chunk.skipped
    first = {"a.mp4": 0, "b.avi": 30, "more/c2.mp4": 95, "more/c10.mkv": 50, "more/d.mp4": 101}
    for video in chunk.origins.unique_consecutive().tolist():
        here, name = chunk.origins == video, stream.origin_names[video]
        expected = [first[name] + 2 * k for k in range(int(here.sum()))]
        found = shades(chunk._replace(pixels=chunk.pixels[here]))
        assert all(abs(a - b) <= 1 for a, b in zip(found, expected, strict=True)), name
    assert len(chunk.origins.unique_consecutive()) == 5 and (chunk.targets == -1).all()


def test_above_a_videos_own_rate_frames_repeat(tmp_path):
    write(tmp_path / "a.mp4", 5, first=1, step=20)
    chunk = VideoStream(tmp_path, side=SIDE, fps=20, n_seq_samples=0).read(0, 99)
    assert [round(shade / 10) for shade in shades(chunk)] == [1, 1, 2, 2, 3, 3, 4, 4, 5, 5]


def test_the_slots_of_a_video(folder):
    row = VideoStream(folder, side=SIDE, fps=10, n_seq_samples=8, seed=1)
    assert all(row.frames(v).diff().eq(1).all() for v in (0, 1, 3, 4))
    assert row.frames(2).tolist() == [0, 0, 1, 2, 3, 3, 4, 5]  # six frames in eight slots
    assert len({int(row.frames(v)[0]) for v in (0, 1, 3, 4)}) > 1
    mixed = VideoStream(folder, side=SIDE, fps=10, n_seq_samples=8, seq_sampling="random", seed=1)
    assert all(len(mixed.frames(v).unique()) == min(8, mixed.videos[v].num_frames) for v in range(5))
    assert mixed.frames(0).tolist() != mixed.frames(0).sort()[0].tolist()
    other = VideoStream(folder, side=SIDE, fps=10, n_seq_samples=8, seq_sampling="random", seed=2)
    assert other.frames(0).tolist() != mixed.frames(0).tolist()
    draws = torch.Generator().manual_seed(0)
    assert draw_evenly(7, 3, draws).bincount().sort()[0].tolist() == [2, 2, 3]


def test_the_frame_of_a_slot_is_the_same_in_every_order(folder):
    settings_ = {"side": SIDE, "fps": 10, "n_seq_samples": 8, "seq_sampling": "random", "seed": 4}
    found = []
    for order in ("sequential", "decorrelated"):
        stream = VideoStream(folder, order=order, epochs=2, **settings_)
        for epoch in (0, 1):
            index, chunk = stream.index(epoch * 40, 40), stream.read(epoch * 40, 40)
            found.append(chunk.pixels[index.argsort()])
            assert sorted(index.tolist()) == list(range(40))
            runs = len(chunk.origins.unique_consecutive())
            assert runs == 5 if order == "sequential" else runs > 15
        assert stream.index(0, 40).tolist() != stream.index(40, 40).tolist() and stream.bounds == (40, 80)
    assert all(torch.equal(pixels, found[0]) for pixels in found)


@pytest.mark.parametrize("choice", [0, 1, 3])
def test_in_sequence_every_frame_is_decoded_once(folder, choice, monkeypatch):
    opened, decoded = [], []
    decode = Reader._decode
    monkeypatch.setattr(videos, "Reader", lambda video, fps: opened.append(video.path) or Reader(video, fps))
    monkeypatch.setattr(
        Reader, "_decode", lambda self, waiting: (decoded.append(0) or shown for shown in decode(self, waiting))
    )
    stream = VideoStream(folder, side=4, fps=10, **CHOICES[choice])
    for start in range(0, stream.length, 3):
        stream.read(start, 3)
    assert len(opened) == len(set(opened)) == 5
    assert len(decoded) <= 30 + 20 + 6 + 45 + 25 + 5


def test_a_video_that_breaks_off_is_named_once(tmp_path):
    whole = write(tmp_path / "a.mkv", 100, first=10).read_bytes()
    (tmp_path / "a.mkv").write_bytes(whole[: len(whole) // 2])
    stream = VideoStream(tmp_path, side=SIDE, n_seq_samples=0)
    chunk = stream.read(0, 80)
    assert stream.length == 80 and 20 < len(chunk.positions) < 70
    assert chunk.positions.tolist() == list(range(len(chunk.positions)))
    assert chunk.skipped == ["a.mkv: ends before its stated length"]
    assert stream.read(75, 5).skipped == chunk.skipped and not stream.read(0, 5).skipped


def test_a_video_that_goes_away_is_skipped(tmp_path):
    write(tmp_path / "a.mp4", 10)
    write(tmp_path / "b.mp4", 10)
    stream = VideoStream(tmp_path, side=4, n_seq_samples=4)
    (tmp_path / "b.mp4").unlink()
    chunk = stream.read(0, 8)
    assert chunk.skipped == ["b.mp4: No such file or directory"] and chunk.origins.tolist() == [0] * 4


@pytest.mark.parametrize(
    "settings_, words",
    [
        ({"fps": 0}, "--fps 0: must be above 0; e.g. 8"),
        ({"fps": -1.0, "n_seq_samples": -1, "side": 0}, "--side 0.*\n--fps -1.*\n--n_seq_samples -1"),
        ({"order": "shuffled"}, "--order shuffled: must be one of sequential, decorrelated"),
        ({"seq_sampling": "any"}, "--seq_sampling any: must be one of"),
        ({"seq_sampling": "random", "n_seq_samples": 0}, "--seq_sampling random: of how many"),
        ({"epochs": 0, "num_workers": 0}, "--epochs 0"),
    ],
)
def test_settings_that_cannot_be(tmp_path, settings_, words):
    with pytest.raises(ConfigError, match=words):
        VideoStream(tmp_path, **{"side": 4, **settings_})


def test_folders_without_videos(tmp_path, noise_image):
    with pytest.raises(DataError, match=r"--data_dir .*none: no such folder"):
        VideoStream(tmp_path / "none", side=4)
    with pytest.raises(DataError, match=r"no video that opens, in it or below. It is empty"):
        VideoStream(tmp_path, side=4)
    noise_image(tmp_path / "a.png")
    with av.open(str(tmp_path / "sound.wav"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        sound.sample_rate = 8000
        container.mux([*stream.encode(sound), *stream.encode()])
    with pytest.raises(DataError, match=r"(?s)a.png: no video in it.*sound.wav: no video in it"):
        VideoStream(tmp_path, side=4)


def test_a_video_without_frames_or_without_a_stated_length(tmp_path):
    write(tmp_path / "bare.avi", 0)
    write(tmp_path / "bare.mkv", 0)
    write(tmp_path / "raw.h264", 30, codec="libx264")
    stream = VideoStream(tmp_path, side=4, fps=5, n_seq_samples=0)
    assert stream.origin_names == ("raw.h264",)
    skipped = dict(text.split(": ") for text in stream.skipped_at_start)
    assert skipped.keys() == {"bare.avi", "bare.mkv"}
    assert stream.length in range(5, 17) and not stream.read(0, 5).skipped


def test_without_pyav(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ConfigError, match=r"needs PyAV, which is not installed; pip install 'cassle\[video\]'"):
        VideoStream(tmp_path, side=4)


def test_real_videos(shared_data):
    if not (shared_data / "videos").is_dir():
        pytest.skip(f"no real videos: {shared_data / 'videos'} does not exist")
    stream = VideoStream(shared_data / "videos", side=8, num_workers=2)
    chunk = stream.read(0, stream.length)
    assert stream.num_origins == 7 and stream.length == 7 * 64 and stream.skipped_at_start == ()
    assert [text.split(": ")[0] for text in chunk.skipped] == ["corrupted.mp4"]
    counts = dict(zip(stream.origin_names, chunk.origins.bincount(minlength=7).tolist(), strict=True))
    assert counts.pop("corrupted.mp4") == 0 and set(counts.values()) == {64}  # its first seconds decode
    mixed = VideoStream(shared_data / "videos", side=8, order="decorrelated", n_seq_samples=8, seq_sampling="random")
    left = mixed.read(0, mixed.length).origins.bincount(minlength=7)[stream.origin_names.index("corrupted.mp4")]
    assert 0 < left < 8  # where all slots are mixed every frame is judged by itself
    assert chunk.pixels.float().var(dim=0).mean() > 500
