"""SIGTERM: save, then exit with 143, so that a scheduler sees what happened."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType

EXIT_CODE = 128 + signal.SIGTERM


class Interruption:
    """While active, SIGTERM ends the process: at once, or at the end of the training step during ``training``.

    Lightning composes its own handler with the one that it finds, so this one stays in charge during a fit; Lightning
    itself would exit with 0.
    """

    def __init__(self) -> None:
        self.requested = False
        self.training = False

    def __enter__(self) -> Interruption:
        if threading.current_thread() is threading.main_thread():  # elsewhere Python allows no handlers
            self._previous = signal.signal(signal.SIGTERM, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._previous)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.requested = True
        if not self.training:
            raise SystemExit(EXIT_CODE)

    def exit_if_requested(self) -> None:
        """Raise ``SystemExit(143)`` if SIGTERM has come."""
        if self.requested:
            raise SystemExit(EXIT_CODE)
