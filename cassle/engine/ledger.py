"""The ledger: which task is done, by which checkpoint, with which numbers. Replaced atomically after every change."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from cassle.atomic import atomic_write_text
from cassle.errors import CassleError

Rows = dict[str, list[float]]  # probe -> accuracy per task, fractions


@dataclass
class TaskRecord:
    """What is known of one task.

    Attributes:
        status: pending; trained (``checkpoint`` is final); done (``rows`` are there too).
        checkpoint: path of the hand-off checkpoint, relative to the folder of the experiment (or absolute).
        digest: SHA-256 of that file.
        rows: accuracies after this task.
        samples: of a stream, how many had arrived.
        begun: of a stream, how many of its splits had begun.
        ended: of a stream, the splits that ended here.
        skipped: of a stream, what did not decode, as "name: reason".
        trimmed: of a stream, whether the checkpoint has the network only.
    """

    status: Literal["pending", "trained", "done"] = "pending"
    checkpoint: str | None = None
    digest: str | None = None
    rows: Rows = field(default_factory=dict)
    samples: int | None = None
    begun: int | None = None
    ended: list[int] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    trimmed: bool = False


class Ledger:
    """The ledger of an experiment.

    Args:
        path: the file; read if it exists.
        num_tasks: number of tasks.

    Raises:
        CassleError: the file is damaged.
    """

    def __init__(self, path: Path, num_tasks: int) -> None:
        self.path = path
        self.random: Rows | None = None
        self.tasks = [TaskRecord() for _ in range(num_tasks)]
        self.wandb_id: str | None = None
        self.resharded: list[dict[str, int]] = []  # task, step, from, to: where the number of processes has changed
        if path.is_file():
            try:
                content = json.loads(path.read_text())
                self.random, self.wandb_id = content["random"], content["wandb_id"]
                self.tasks = [TaskRecord(**record) for record in content["tasks"]]
                self.resharded = content.get("resharded", [])
            except (ValueError, KeyError, TypeError) as error:
                raise CassleError(f"{path}: damaged ({error}). Start anew with --overwrite.") from error

    def save(self) -> None:
        """Write the ledger."""
        content = {
            "random": self.random,
            "wandb_id": self.wandb_id,
            "tasks": [asdict(record) for record in self.tasks],
            **({"resharded": self.resharded} if self.resharded else {}),
        }
        atomic_write_text(self.path, json.dumps(content, indent=2) + "\n")
