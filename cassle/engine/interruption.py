"""SIGTERM and Ctrl-C: save, then exit with 143 or 130, so that a scheduler sees what happened."""

from __future__ import annotations

import signal
import sys
import threading
from types import FrameType, TracebackType

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Interruption:
    """While active, a signal ends the process: at once, or at the end of the training step during ``training``.

    A second Ctrl-C ends it without saving. Lightning puts handlers of its own in front of these when a fit starts (they
    would exit with 0 or 1, and hang with several processes): ``install`` is called again then.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self.training = False

    @property
    def requested(self) -> bool:
        """Whether a signal has come."""
        return self.received is not None

    def __enter__(self) -> Interruption:
        self._previous = {number: signal.getsignal(number) for number in SIGNALS}
        self.install()
        return self

    def install(self) -> None:
        """Take over the signals; only the main thread may."""
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                signal.signal(number, self._handle)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if threading.current_thread() is threading.main_thread():
            for number, handler in self._previous.items():
                signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        again, self.received = self.received == number, number
        if again and number == signal.SIGINT:
            raise SystemExit(128 + number)
        if not self.training:
            self.exit()

    def exit(self) -> None:
        """End the process with 128 plus the number of the signal (SIGTERM where another process received it)."""
        number = self.received or signal.SIGTERM
        print(f"{signal.Signals(number).name}: stopped. The same command continues the run.", file=sys.stderr)
        raise SystemExit(128 + number)
