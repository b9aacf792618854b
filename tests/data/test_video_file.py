"""One video file: the same frame from wherever the decoder comes, shown upright."""

import random

import av
import numpy as np
import pytest

from cassle.data import video_file
from cassle.data.video_file import Reader, look
from tests.data.test_videos import SIDE, write


@pytest.mark.parametrize("name, codec", [("a.mp4", "libx264"), ("a.mov", "mpeg4"), ("a.avi", "mpeg4")])
def test_a_frame_is_the_same_from_wherever_the_decoder_comes(tmp_path, monkeypatch, name, codec):
    """Also in files with damaged pictures: a frame is missing on every way, or on none."""
    monkeypatch.setattr(video_file, "JUMP", 1.0)
    draws, data = random.Random(0), bytearray(write(tmp_path / name, 100, codec=codec).read_bytes())
    missing = 0
    for trial in range(6):
        damaged = bytearray(data)
        if trial:
            place = draws.randrange(len(data) // 4, 3 * len(data) // 4)
            damaged[place : place + 20] = draws.randbytes(20)
        (tmp_path / name).write_bytes(damaged)
        video = look(tmp_path / name, 8)
        reader = Reader(video, 8)

        def shade(k, reader=reader):
            frame = reader.at(k)[0]
            return None if frame is None else frame.to_ndarray(format="gray").tobytes()

        in_order = [shade(k) for k in range(video.num_frames)]
        anywhere = draws.sample(range(video.num_frames), 40)
        assert [shade(k) for k in anywhere] == [in_order[k] for k in anywhere]
        missing += in_order.count(None)
        assert trial or not missing
        reader.close()
    assert missing or codec == "mpeg4"


def test_a_turned_video_is_shown_upright(tmp_path):
    write(tmp_path / "a.mp4", 3, turned=90)
    with av.open(str(tmp_path / "a.mp4")) as container:
        frame = next(container.decode(video=0))
    turned = np.asarray(video_file.upright(frame))
    assert turned.shape == (2 * SIDE, SIDE, 3)
    assert turned[-SIDE:].mean() > 250 and turned[:SIDE].mean() < 5  # a quarter turn to the left: left becomes below
