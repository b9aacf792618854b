"""Imported only by the process out of which those that decode are forked: it outlives a signal that is sent to all."""

import signal

from cassle.data import decoding  # noqa: F401 - what its children need

signal.signal(signal.SIGTERM, signal.SIG_IGN)  # it ends when the run does: its pipe is closed then
