"""The errors that a user can cause, and how they are put into words."""

from __future__ import annotations

from collections.abc import Iterable


class CassleError(Exception):
    """A failure that the user can repair: its text names the flag or file, the value, and the fix."""


class ConfigError(CassleError):
    """One or more wrong settings, collected so that they are repaired in one go.

    Args:
        problems: one sentence per wrong setting.
        everywhere: whether all processes that were started have the same ones, so that the first may speak for all.
    """

    def __init__(self, problems: str | Iterable[str], *, everywhere: bool = False) -> None:
        self.everywhere = everywhere
        self.problems = [problems] if isinstance(problems, str) else list(problems)
        super().__init__("\n".join(self.problems))


class DataError(CassleError):
    """The data set is missing, incomplete, damaged or too large for the engine."""


class CheckpointError(CassleError):
    """A checkpoint is missing, damaged, unsafe, or of another architecture."""
