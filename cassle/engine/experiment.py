"""An experiment: settings in, a folder of results out; killed at any time, it goes on where it was."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from cassle.data.iterators import Source
from cassle.engine.folder import ExperimentFolder
from cassle.engine.group import launch_problems
from cassle.engine.plan import Plan
from cassle.engine.stream import StreamChain
from cassle.engine.tasks import TaskChain
from cassle.engine.trainer import quiet
from cassle.errors import ConfigError


class Experiment:
    """Continual training over a sequence of tasks, evaluated after each; continues where an earlier run stopped.

    Args:
        say: takes the lines that the run prints.
        images: a stream from Python: an iterable of images, or ``open(position)``, which returns an iterator from that
            position on, so that a killed run can go on where it was; see ``cassle.data.iterators``.
        settings: any setting of the command line by its name, e.g. ``method="byol", max_epochs=20``.

    Raises:
        ConfigError: everything that is wrong with the settings, together.
    """

    def __init__(self, *, say: Callable[[str], object] = print, images: Source | None = None, **settings: Any) -> None:
        self.plan = Plan({**({} if images is None else {"dataset": "iterator"}), **settings}, images)
        self.folder = ExperimentFolder(self.plan.folder)
        self.say = say

    def run(self) -> dict[str, Any]:
        """Train what is not done, and return the results (the content of ``results.json``).

        Raises:
            ConfigError: this machine lacks something, or the folder holds another experiment.
            CassleError: the data, a checkpoint or the disk fails.
            SystemExit: SIGTERM or Ctrl-C came; the state is saved (143, 130).
        """
        quiet()
        if self.plan.training.num_threads is not None:
            torch.set_num_threads(self.plan.training.num_threads)
        if problems := self.plan.missing_here():
            raise ConfigError(problems, everywhere=bool(launch_problems(self.plan.training)))
        kind = StreamChain if self.plan.is_stream else TaskChain
        return kind(self.plan, self.folder, self.say).run()
