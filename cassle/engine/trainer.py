"""One task: a Lightning fit over a loader, resumable at any step."""

from __future__ import annotations

import inspect
import logging
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from cassle.engine.checkpoint import AtomicCheckpointIO
from cassle.engine.group import BatchNormSync, environment, launch_problems, launcher_problems, meet
from cassle.errors import ConfigError
from cassle.processes import local_rank, rank
from cassle.registry import did_you_mean

#: Trainer options that the house sets itself
OWNED = {
    "accelerator", "devices", "strategy", "num_nodes", "precision", "max_epochs", "sync_batchnorm", "callbacks",
    "accumulate_grad_batches", "logger", "enable_checkpointing", "plugins", "default_root_dir", "model_registry",
    "use_distributed_sampler", "enable_progress_bar", "enable_model_summary", "num_sanity_val_steps", "inference_mode",
    "check_val_every_n_epoch", "reload_dataloaders_every_n_epochs", "limit_train_batches", "overfit_batches",
    "min_epochs", "max_steps", "min_steps", "max_time", "fast_dev_run", "barebones",
}  # fmt: skip


class Training:
    """Length, batch and hardware of the training."""

    def __init__(
        self,
        *,
        max_epochs: int = 100,
        batch_size: int = 128,
        gpus: list[int] | None = None,
        accelerator: Literal["auto", "cpu", "gpu"] = "auto",
        devices: int = 1,
        num_nodes: int = 1,
        trainer_strategy: str = "auto",
        precision: Literal["32-true", "16-mixed", "bf16-mixed"] = "32-true",
        sync_batchnorm: bool = False,
        accumulate_grad_batches: int = 1,
        channels_last: bool = False,
        num_threads: int | None = None,
        checkpoint_frequency: int = 1,
        checkpoint_minutes: float = 10.0,
        trainer: dict[str, Any] | None = None,
    ) -> None:
        """Describe the training.

        Args:
            max_epochs: epochs per task.
            batch_size: images per step and process.
            gpus: ids of the GPUs to use, e.g. 0,1; default: see accelerator and devices.
            accelerator: auto = a GPU if there is one, else the CPU.
            devices: processes, one per device.
            num_nodes: machines.
            trainer_strategy: how Lightning uses several devices, e.g. auto or ddp.
            precision: 32-true, 16-mixed or bf16-mixed; upstream's 32 and 16 mean the first two.
            sync_batchnorm: batch norm over the images of all processes.
            accumulate_grad_batches: batches per optimizer step; the learning rate counts their images.
            channels_last: lay tensors out as NHWC (faster convolutions on recent GPUs).
            num_threads: CPU threads of torch; default: torch's choice. With a tiny network 1 is fastest.
            checkpoint_frequency: epochs between the checkpoints to continue from.
            checkpoint_minutes: save inside an epoch after so many minutes; 0 after every step.
            trainer: further options of Lightning's Trainer (--trainer.NAME VALUE).

        Raises:
            ConfigError: a value is out of range, or contradicts another.
        """
        counts = {
            "max_epochs": max_epochs, "batch_size": batch_size, "devices": devices, "num_nodes": num_nodes,
            "accumulate_grad_batches": accumulate_grad_batches, "checkpoint_frequency": checkpoint_frequency,
        }  # fmt: skip
        counts["num_threads"] = 1 if num_threads is None else num_threads
        problems = [f"--{name} {value}: must be at least 1." for name, value in counts.items() if value < 1]
        problems += _trainer_problems(trainer or {})
        if not checkpoint_minutes >= 0:
            problems.append(f"--checkpoint_minutes {checkpoint_minutes}: must be at least 0.")
        if gpus is not None and (not gpus or min(gpus) < 0):
            problems.append(f"--gpus {','.join(map(str, gpus))}: must be ids of GPUs, from 0, e.g. 0 or 0,1.")
        if gpus and accelerator == "cpu":
            problems.append("--accelerator cpu: contradicts --gpus; remove one of the two.")
        if problems:
            raise ConfigError(problems)
        self.max_epochs, self.batch_size, self.accumulate = max_epochs, batch_size, accumulate_grad_batches
        self.gpus, self.accelerator, self.devices, self.num_nodes = gpus, accelerator, devices, num_nodes
        self.strategy, self.precision, self.sync_batchnorm = trainer_strategy, precision, sync_batchnorm
        self.channels_last, self.num_threads = channels_last, num_threads
        self.checkpoint_frequency, self.checkpoint_minutes = checkpoint_frequency, checkpoint_minutes
        self.options = dict(trainer or {})

    @property
    def per_node(self) -> int:
        """Processes on each machine."""
        return len(self.gpus) if self.gpus else self.devices

    @property
    def processes(self) -> int:
        """Processes that train together."""
        return self.per_node * self.num_nodes

    @property
    def rank(self) -> int:
        """The number of this process; the first one writes."""
        return rank(self.processes, self.per_node)

    @property
    def images_per_step(self) -> int:
        """Images of one optimizer step, over all processes and accumulated batches."""
        return self.batch_size * self.processes * self.accumulate

    @property
    def on_gpu(self) -> bool:
        """Whether the training will run on CUDA."""
        return (
            bool(self.gpus) or self.accelerator == "gpu" or (self.accelerator == "auto" and torch.cuda.is_available())
        )

    @property
    def device(self) -> torch.device:
        """The device of this process."""
        if not self.on_gpu:
            return torch.device("cpu")
        ids = self.gpus or range(self.devices)
        return torch.device("cuda", ids[local_rank() % len(ids)])

    def machine_problems(self) -> list[str]:
        """Return what this machine lacks for these settings, one sentence each."""
        if problems := launch_problems(self):
            return problems
        here = torch.cuda.device_count() if torch.cuda.is_available() else 0
        fix = "remove the flag to train on the CPU" if not here else f"this machine has 0 to {here - 1}"
        if self.gpus and max(self.gpus) >= here:
            return [f"--gpus {','.join(map(str, self.gpus))}: no such CUDA device ({here} found); {fix}."]
        if self.on_gpu and self.per_node > here:
            return [f"--accelerator {self.accelerator} --devices {self.per_node}: {here} CUDA devices found; {fix}."]
        if self.precision == "16-mixed" and not self.on_gpu:
            return ["--precision 16: 16-bit floats need a GPU; on the CPU use --precision 32."]
        try:
            return launcher_problems(self.make_trainer(Path(), [], progress_bar=False))
        except (ValueError, TypeError, RuntimeError, MisconfigurationException) as error:
            given = "".join(f" --trainer.{name} {value}" for name, value in self.options.items())
            return [f"--trainer_strategy {self.strategy}{given}: refused by Lightning's Trainer ({error})."]

    def meet(self) -> None:
        """Bring the processes of the training together; every one must call this."""
        if self.processes > 1:
            meet(self.make_trainer(Path(), [], progress_bar=False))

    def make_trainer(self, folder: Path, callbacks: list[pl.Callback], *, progress_bar: bool) -> pl.Trainer:
        """Return a Lightning trainer for one task."""
        together = self.sync_batchnorm and self.processes > 1
        sync = [BatchNormSync(on_gpu=self.on_gpu)] if together else []
        return pl.Trainer(
            accelerator="gpu" if self.on_gpu else "cpu",
            devices=self.gpus or self.devices,
            num_nodes=self.num_nodes,
            strategy=self.strategy,
            precision=self.precision,
            max_epochs=self.max_epochs,
            accumulate_grad_batches=self.accumulate,
            callbacks=callbacks,
            plugins=[AtomicCheckpointIO(), environment(self.processes), *sync],
            default_root_dir=folder,
            logger=False,
            enable_checkpointing=False,
            enable_model_summary=False,
            enable_progress_bar=progress_bar,
            use_distributed_sampler=False,  # the loader deals the batches out itself
            num_sanity_val_steps=0,
            **self.options,
        )


def _trainer_problems(options: Mapping[str, Any]) -> list[str]:
    known = set(inspect.signature(pl.Trainer.__init__).parameters) - {"self"}
    problems = [f"--trainer.{n}: unknown.{did_you_mean(n, known - OWNED)}" for n in options if n not in known]
    problems += [
        f"--trainer.{n}: set by cassle; use --{n} if there is such a flag, else leave it out."
        for n in options
        if n in OWNED
    ]
    return problems


def quiet() -> None:
    """Silence what Lightning says about matters that are settled here."""
    for name in ("pytorch_lightning", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    for message in (
        ".*module\\(s\\) in eval mode at the start of training.*",  # the frozen teacher, on purpose
        ".*does not have many workers.*",
        "This DataLoader will create .* worker processes in total.*",  # the views do not depend on their number
        ".*GPU available but not used.*",
        ".*smaller than the logging interval.*",
        ".*`isinstance\\(treespec, LeafSpec\\)` is deprecated.*",
    ):
        warnings.filterwarnings("ignore", message)
