"""When what happens along a stream: how many batches it has, and after which of them the encoder is evaluated."""

from __future__ import annotations

from collections.abc import Sequence

from cassle.data.stream_settings import StreamData
from cassle.errors import ConfigError


class Timetable:
    """The course of a run over a stream, counted in batches of all processes; those of the warm-up come before.

    Args:
        stream: the settings.
        length: samples of the stream; None for one without (known) end.
        bounds: samples after which a split or an epoch is through.
        whole: images of a batch of all processes.
        num_splits: splits that are evaluated.

    Raises:
        ConfigError: the stream has no end and nothing says where to stop, or it has no whole batch after the warm-up.
    """

    def __init__(
        self, stream: StreamData, *, length: int | None, bounds: Sequence[int] = (), whole: int, num_splits: int = 1
    ) -> None:
        self.stream, self.num_updates, self.num_splits = stream, stream.num_updates, num_splits
        self.warm_up = -(-stream.warm_up // whole)
        if length is None and stream.length is None:
            raise ConfigError("--stream_length: missing; this stream has no end. Say after how many samples to stop.")
        self.num_samples = min(number for number in (length, stream.length) if number is not None)
        self.num_batches = self.num_samples // whole
        if not self.num_batches:
            raise ConfigError(
                f"--batch_size: the stream has {self.num_samples} samples, which is not one batch of {whole} (of all "
                f"processes); use a smaller one{'' if stream.length is None else ', or a larger --stream_length'}."
            )
        if self.num_batches <= self.warm_up:
            raise ConfigError(
                f"--memory_warm_up {stream.warm_up}: the stream has {self.num_samples} samples, which leaves no batch "
                f"of {whole} to train on; give less."
            )
        # As near as whole batches come to it.
        self._bounds = [round(bound / whole) - self.warm_up for bound in bounds]

    @property
    def total_steps(self) -> int:
        """Optimizer steps: as many as K passes have."""
        return self.num_batches * self.num_updates

    @property
    def evaluations(self) -> list[int]:
        """After how many batches the encoder is evaluated, ascending; the last time is the end."""
        points = {max(round(self.num_batches * percent / 100), 1) for percent in self.stream.eval_at}
        if self.stream.at_bounds:
            points |= {bound for bound in self._bounds if 0 < bound < self.num_batches}
        return sorted(points)

    def begun(self, batches: int) -> int:
        """Return how many splits have begun after so many batches; all where the stream is not in their order."""
        if self.stream.stream != "class":
            return self.num_splits
        return 1 + sum(bound < batches for bound in self._bounds[: self.num_splits - 1])

    def ended(self, batches: int) -> list[int]:
        """Return the splits whose only pass ends after so many batches."""
        if self.stream.stream != "class" or self.stream.epochs > 1:
            return []
        return [split for split, bound in enumerate(self._bounds) if bound == batches]
