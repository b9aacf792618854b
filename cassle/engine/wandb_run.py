"""Weights & Biases: one run per experiment, continued when the experiment is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any


class WandB:
    """Logging to Weights & Biases."""

    def __init__(
        self, *, wandb: bool | None = None, project: str = "cassle", entity: str | None = None, offline: bool = False
    ) -> None:
        """Describe the logging.

        Args:
            wandb: log to Weights & Biases; default: only if offline.
            project: its project.
            entity: its user or team.
            offline: log, and keep the log in the experiment's folder, to be uploaded later with wandb sync.
        """
        self.enabled = offline if wandb is None else wandb
        self.project, self.entity, self.offline = project, entity, offline

    def start(self, name: str, folder: Path, config: Mapping[str, Any], run_id: str | None) -> WandBRun | None:
        """Start or continue a run; None when logging is off."""
        if not self.enabled:
            return None
        import wandb

        run = wandb.init(
            project=self.project,
            entity=self.entity,
            name=name,
            id=run_id,
            resume="allow" if run_id else None,
            dir=folder,
            mode="offline" if self.offline else "online",
            config=dict(config),
        )
        return WandBRun(run)


class WandBRun:
    """A running log.

    Args:
        run: the run of the ``wandb`` package.
    """

    def __init__(self, run: Any) -> None:
        self.run = run
        self.id: str = run.id
        # Epochs of all tasks on one axis; a resumed run may send an epoch again.
        run.define_metric("total_epoch")
        run.define_metric("*", step_metric="total_epoch")

    def epoch(self, row: Mapping[str, float], max_epochs: int) -> None:
        """Send a row of the table of metrics."""
        self.run.log({**row, "total_epoch": row["task"] * max_epochs + row["epoch"]})

    def stream(self, row: Mapping[str, float]) -> None:
        """Send a row of the table of a stream."""
        self.run.log({**row, "total_epoch": row["samples"]})

    def task(self, task: int, rows: Mapping[str, list[float]]) -> None:
        """Send the accuracies after a task."""
        numbers = {f"{probe}/task{i}": value for probe, row in rows.items() for i, value in enumerate(row)}
        self.run.log({**numbers, "after_task": task})

    def finish(self, results: Mapping[str, Any]) -> None:
        """Put the closing numbers into the summary and end the run."""
        for probe, numbers in results["probes"].items():
            for name, value in numbers.items():
                if not isinstance(value, list):  # rows and matrices are in the log
                    self.run.summary[f"{probe}/{name}"] = value
        self.run.finish()
