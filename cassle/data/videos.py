"""A stream of the frames of videos: one video after the other, or all frames mixed."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from cassle.checks import Count, Positive, Seed, Whole, out_of_range
from cassle.data.orders import draw_evenly, group_order, iid_order
from cassle.data.source import UNDECODABLE, squared
from cassle.data.streams import Chunk, IndexedStream, digest_of
from cassle.data.tree import files_below
from cassle.data.video_file import ENDS_EARLY, Reader, Video, av_module, decodes, look, reason_of, upright
from cassle.errors import ConfigError, DataError
from cassle.randomness import generator

LOOKED_AT = 64  # videos in which a frame is looked for before anything is trained, evenly spread
Found = dict[int, "Tensor | str"]  # by number of the frame: its pixels (3, side, side), or why there are none


class VideoStream(IndexedStream):
    """The frames of all videos of a folder; a sample is a slot of a video, and its origin the video.

    Every video has ``n_seq_samples`` slots. Which frame a slot shows is a function of (seed, video, slot); the order of
    the slots is one of (seed, epoch). Frame k of a video is what it shows k/fps seconds after its start, so above a
    video's own rate frames repeat. A video with fewer frames than slots shows each of them equally often (± 1).

    In sequential order a video is skipped as a whole if one of its slots is damaged; where all slots are mixed, and
    with all frames of a video, every frame is judged by itself.

    Args:
        folder: of videos, at any depth; files that no decoder opens are named in ``skipped_at_start``.
        side: side in pixels to which frames are cut (the shorter side is resized, the centre is kept).
        fps: frames a second.
        n_seq_samples: L, slots of a video; 0: every frame.
        seq_sampling: consecutive = L frames in a row from a random one on, random = L different frames of the video, in
            random order.
        order: sequential = the videos in random order, the slots of each one after the other; decorrelated = all slots
            of all videos shuffled.
        epochs: how often all slots come, in another order each time; None: without end.
        seed: of everything that is random.
        num_workers: threads, each of which decodes a video.

    Raises:
        ConfigError: a setting that cannot be, or PyAV is not installed.
        DataError: there is no such folder, no video in it, or no frame that decodes in those that are looked at.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        side: Count,
        fps: Positive = 8.0,
        n_seq_samples: Whole = 64,
        seq_sampling: Literal["consecutive", "random"] = "consecutive",
        order: Literal["sequential", "decorrelated"] = "sequential",
        epochs: Count | None = 1,
        seed: Seed = 0,
        num_workers: Count = 4,
    ) -> None:
        problems = [*out_of_range(VideoStream, locals()).values()]
        problems += _unknown("seq_sampling", seq_sampling, ("consecutive", "random"))
        problems += _unknown("order", order, ("sequential", "decorrelated"))
        if not n_seq_samples and seq_sampling == "random":
            problems.append("--seq_sampling random: of how many frames? Give --n_seq_samples, at least 1.")
        if problems:
            raise ConfigError(problems)
        av_module()
        self.folder, self.side, self.fps, self.seed, self.num_workers = Path(folder), side, fps, seed, num_workers
        self.n_seq_samples, self.seq_sampling, self.sequential = n_seq_samples, seq_sampling, order == "sequential"
        self._find_videos()
        slots = torch.tensor([n_seq_samples or video.num_frames for video in self.videos])
        self._ends = slots.cumsum(0)
        mixed = iid_order(int(slots.sum()), seed=seed, epochs=epochs)
        super().__init__(group_order(slots, seed=seed, epochs=epochs) if self.sequential else mixed)
        self._open: tuple[int, Reader] | None = None  # the video that was read last, where the next chunk may go on
        self._kept: tuple[int, Found] = (-1, {})  # all slots of that video, where it is judged as a whole

    def _find_videos(self) -> None:
        names = files_below(self.folder)
        with ThreadPoolExecutor(self.num_workers) as pool:
            found = list(pool.map(self._look, names))
        self.videos = [video for video in found if isinstance(video, Video)]
        self.origin_names = tuple(name for name, video in zip(names, found, strict=True) if isinstance(video, Video))
        self.skipped_at_start = tuple(text for text in found if isinstance(text, str))
        self.num_origins = len(self.videos)
        self.digest = digest_of(f"{name}:{(self.folder / name).stat().st_size}" for name in self.origin_names)
        if not self.videos:
            why = "\n  ".join(["", *self.skipped_at_start[:5]]) if names else " It is empty."
            raise DataError(f"--data_dir {self.folder}: no video that opens, in it or below.{why}")
        some = self.videos[:: -(-len(self.videos) // LOOKED_AT)]
        if not any(map(decodes, some)):
            raise DataError(
                f"--data_dir {self.folder}: no frame decodes in any of the {len(some)} videos that were looked at, "
                f"e.g. {some[0].path}. Repair them, or give others."
            )

    def _look(self, name: str) -> Video | str:
        try:
            return look(self.folder / name, self.fps)
        except DataError as error:
            return f"{name}: {error}"

    def frames(self, video: int) -> Tensor:
        """Return the frames that the slots of a video show, (slots,) int64: numbers k, at k/fps seconds."""
        L, number = self.n_seq_samples, self.videos[video].num_frames
        if not L:
            return torch.arange(number)
        draws = generator(self.seed, "frames of video", video)
        if self.seq_sampling == "random":
            return draw_evenly(L, number, draws)
        if number < L:
            return torch.arange(L) * number // L
        return torch.randint(number - L + 1, (1,), generator=draws) + torch.arange(L)

    def read(self, start: int, count: int) -> Chunk:
        """Return the frames at stream positions [start, start + count) that decode."""
        index = self.index(start, count)
        videos = torch.searchsorted(self._ends, index, right=True)
        slots = index - torch.cat([self._ends.new_zeros(1), self._ends])[videos]
        frames, numbers = torch.empty_like(index), list(dict.fromkeys(videos.tolist()))
        for video in numbers:
            here = videos == video
            frames[here] = self.frames(video)[slots[here]]
        with ThreadPoolExecutor(self.num_workers) as pool:
            visits = list(pool.map(lambda video: self._visit(video, frames[videos == video]), numbers))
        self._keep({video: reader for video, (_, reader) in zip(numbers, visits, strict=True)})
        found = {video: images for video, (images, _) in zip(numbers, visits, strict=True)}
        if self._as_a_whole and numbers:
            self._kept = numbers[-1], found[numbers[-1]]
        images = [found[video][frame] for video, frame in zip(videos.tolist(), frames.tolist(), strict=True)]
        good = torch.tensor([isinstance(image, Tensor) for image in images], dtype=torch.bool)
        pixels = torch.empty((int(good.sum()), 3, self.side, self.side), dtype=torch.uint8)
        for row, image in zip(pixels, (image for image in images if isinstance(image, Tensor)), strict=True):
            row.copy_(image)
        reasons: dict[int, str] = {}
        for video, image in zip(videos.tolist(), images, strict=True):
            if isinstance(image, str):
                reasons.setdefault(video, f"{self.origin_names[video]}: {image}")
        positions = torch.arange(start, start + len(index))[good]
        return Chunk(positions, pixels, torch.full_like(positions, -1), videos[good], list(reasons.values()))

    @property
    def _as_a_whole(self) -> bool:
        """Whether the slots of a video are decoded together: if one of them is damaged, the video is skipped.

        Where all slots are mixed, a video would be decoded for each of them; and all frames of a long one would fill
        the memory: there every frame is judged by itself.
        """
        return self.sequential and self.n_seq_samples > 0

    def _visit(self, video: int, frames: Tensor) -> tuple[Found, Reader | None]:
        """Return frames of a video, each decoded once, and the reader that stands behind the last of them."""
        if self._kept[0] == video:
            return self._kept[1], None
        wanted = (self.frames(video) if self._as_a_whole else frames).unique().tolist()
        reader = self._open[1] if self._open and self._open[0] == video else None
        try:
            reader = reader or Reader(self.videos[video], self.fps)
        except (av_module().FFmpegError, ValueError) as error:  # it opened at the start
            return dict.fromkeys(wanted, reason_of(error)), None
        found = {k: self._pixels(*reader.at(k)) for k in wanted}
        damage = next((why for why in found.values() if isinstance(why, str) and why != ENDS_EARLY), None)
        if self._as_a_whole and damage is not None:
            return dict.fromkeys(wanted, f"{damage}; skipped as a whole"), reader
        return found, reader

    def _pixels(self, frame: Any, reason: str) -> Tensor | str:
        if frame is None:
            return reason
        try:
            return squared(upright(frame), self.side)
        except (av_module().FFmpegError, *UNDECODABLE) as error:
            return reason_of(error)

    def _keep(self, readers: dict[int, Reader | None]) -> None:
        """Keep the reader of the last video only, and only where the stream goes on in it."""
        if not readers:
            return
        last = list(readers)[-1]
        if self._open and self._open[0] not in readers:
            self._open[1].close()
        self._open = None
        for video, reader in readers.items():
            if reader is None:
                continue
            if video == last and self.sequential and not self._as_a_whole:
                self._open = video, reader
            else:
                reader.close()


def _unknown(flag: str, value: str, known: tuple[str, ...]) -> list[str]:
    return [] if value in known else [f"--{flag} {value}: must be one of {', '.join(known)}."]
