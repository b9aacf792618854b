"""One video file: how long it is, without decoding it, and the frame that is shown at a time."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from PIL import Image

from cassle.errors import ConfigError, DataError

#: containers whose packets carry presentation times and an index of key frames: only there is a jump exact
SEEKABLE = {"mov", "mp4", "matroska", "webm"}
#: what a decoder also opens, and is no video: still images, and text drawn as characters
NO_VIDEOS = {"tty", "image2", "ico", "bin", "adf", "xbin", "idf"}
SLACK = 1e-6  # seconds; time stamps are rounded
JUMP = 10.0  # seconds ahead from which a jump pays
ENDS_EARLY = "ends before its stated length"
BACK = 1.0  # seconds; a jump aims so much earlier, as key frames are indexed by decoding time


def av_module() -> ModuleType:
    """Return PyAV.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        import av
    except ImportError as error:
        fix = "pip install 'cassle[video]'"
        raise ConfigError(f"--dataset video: needs PyAV, which is not installed; {fix}.") from error
    return av


@dataclass(frozen=True)
class Video:
    """A file that opens, and the number of multiples of 1/fps seconds at which it shows a frame, by its own account."""

    path: Path
    num_frames: int


def look(path: Path, fps: float) -> Video:
    """Read how long a video lasts from its header, or (where that does not say) from its packets; nothing is decoded.

    Raises:
        DataError: it does not open, or is no video, or has no frame; the text is the reason alone.
    """
    av = av_module()
    try:
        with av.open(str(path)) as container:
            name = container.format.name
            if name in NO_VIDEOS or name.endswith("_pipe") or not container.streams.video:
                raise DataError("no video in it")
            stream = container.streams.best("video")
            if stream is None or stream.disposition & av.stream.Disposition.attached_pic:
                raise DataError("no video in it")
            seconds = _duration(container, stream)
    except (av.FFmpegError, ValueError) as error:
        raise DataError(reason_of(error)) from error
    return Video(path, max(1, math.ceil(seconds * fps - SLACK)))


def _duration(container: Any, stream: Any) -> float:
    """Return seconds, by the video stream, else by the container, else by the packets."""
    if stream.duration and stream.duration > 0:
        return float(stream.duration * stream.time_base)
    if container.duration and container.duration > 0:
        return container.duration / 1e6
    packets = [p for p in container.demux(stream) if p.size]
    if not packets:
        raise DataError("no frame in it")
    times = [p.dts if p.pts is None else p.pts for p in packets]
    times = [time for time in times if time is not None]
    if len(times) < 2:  # a raw stream without times: the rate that the decoder assumes
        return len(packets) / float(stream.average_rate or stream.guessed_rate or 25)
    return float((max(times) - min(times)) * stream.time_base) * len(packets) / (len(packets) - 1)


def decodes(video: Video) -> bool:
    """Tell whether a frame of a video decodes; stops at the first. A header says nothing of it."""
    av = av_module()
    with contextlib.suppress(av.FFmpegError, ValueError), av.open(str(video.path)) as container:
        for packet in container.demux(container.streams.best("video")):
            with contextlib.suppress(av.FFmpegError):
                if any(not frame.is_corrupt for frame in packet.decode()):
                    return True
    return False


class _Shown(NamedTuple):
    """What is to be seen from a time on (seconds): a frame, or none and why."""

    time: float
    frame: Any
    reason: str = ""


class Reader:
    """The frames of one video by number k: what is shown k/fps seconds after its start.

    A frame is shown until the next one comes, the last one for 1/fps seconds, the first one also before its time. Where
    the file is damaged, frames are missing up to the next key frame: so a frame is the same, or missing, from wherever
    the decoder comes to it (unless the damage hits the container's own index, not the pictures). It decodes in one
    thread, as the place of an error must not depend on others.

    Args:
        video: the file.
        fps: frames a second.

    Raises:
        av.FFmpegError: the file does not open any more.
    """

    def __init__(self, video: Video, fps: float) -> None:
        self._av, self.video, self.fps = av_module(), video, fps
        self._open()

    def _open(self) -> None:
        self.container = self._av.open(str(self.video.path))
        self.stream = self.container.streams.best("video")
        self.stream.codec_context.thread_count = 1
        rate = self.stream.average_rate or self.stream.guessed_rate
        self._interval = 1 / float(rate) if rate else 1 / self.fps
        self._begin = float((self.stream.start_time or 0) * self.stream.time_base)
        self._asked = self._begin
        self._follow(self._decode(waiting=False))

    def _follow(self, frames: Iterator[_Shown]) -> None:
        self._frames, self._shown, self._ahead = frames, next(frames, None), next(frames, None)

    def close(self) -> None:
        """Close the file."""
        self._frames.close()
        self.container.close()

    def at(self, k: int) -> tuple[Any, str]:
        """Return the frame k, or None and the reason where the file has none. Ascending k decode every frame once."""
        time = self._begin + k / self.fps + SLACK
        seekable = not SEEKABLE.isdisjoint(self.container.format.name.split(","))
        if time < self._asked or (seekable and time > self._asked + JUMP):
            self._jump(time, seekable)
        self._asked = time
        while self._ahead is not None and self._ahead.time <= time:
            self._shown, self._ahead = self._ahead, next(self._frames, None)
        return (None, "no frame in it") if self._shown is None else (self._shown.frame, self._shown.reason)

    def _jump(self, time: float, seekable: bool) -> None:
        """Go to a key frame before a time, or to the beginning."""
        if seekable and time - BACK > self._begin:
            with contextlib.suppress(self._av.FFmpegError):
                self.container.seek(int((time - BACK) / self.stream.time_base), stream=self.stream)
                self._follow(self._decode(waiting=True))
                if self._shown is not None and self._shown.time <= time:
                    return
        self.close()  # the beginning is found best in a file that was just opened
        self._open()

    def _decode(self, waiting: bool) -> Iterator[_Shown]:
        """Yield the frames from where the file stands, after the next key frame if ``waiting``, times ascending."""
        codec, packets = self.stream.codec_context, self.container.demux(self.stream)
        last = until = -math.inf
        while True:
            reason = ""
            try:
                packet = next(packets, None)
                if packet is None:
                    break
                frames = packet.decode()
            except self._av.FFmpegError as error:
                reason, frames = reason_of(error), self._drained(codec)
            for frame in frames:
                if waiting and not frame.key_frame:
                    continue
                if frame.is_corrupt:
                    reason = reason or "damaged frames"
                    break
                time = last + self._interval if frame.pts is None else float(frame.pts * self.stream.time_base)
                last = max(last, time if math.isfinite(time) else self._begin)
                seconds = float(frame.duration * self.stream.time_base) if frame.duration else self._interval
                waiting, until = False, last + seconds
                yield _Shown(last, frame)
            if reason:
                codec.flush_buffers()
                waiting = True
                yield _Shown(until, None, reason)
        if not waiting and math.isfinite(last):
            yield _Shown(max(until, last + 1 / self.fps), None, ENDS_EARLY)

    def _drained(self, codec: Any) -> list[Any]:
        """Return the good frames that a decoder still holds back when it comes to a damaged packet."""
        try:
            return codec.decode(None)
        except self._av.FFmpegError:
            return []


def upright(frame: Any) -> Image.Image:
    """Return a decoded frame as an image, turned as the file says that it is to be shown."""
    image = frame.to_image()
    return image.rotate(frame.rotation, expand=True) if frame.rotation % 360 else image


def reason_of(error: Exception) -> str:
    """Return in a few words why a file was refused."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
