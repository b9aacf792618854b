"""Many processes: who starts them, how they meet, and what Lightning is told of them."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytorch_lightning as pl
from pytorch_lightning.plugins import LayerSync
from pytorch_lightning.plugins.environments import (
    ClusterEnvironment,
    LightningEnvironment,
    SLURMEnvironment,
    TorchElasticEnvironment,
)
from pytorch_lightning.strategies.launchers import _MultiProcessingLauncher
from torch import nn

from cassle.nn.synced_batch_norm import SyncedBatchNorm
from cassle.processes import be_patient, connected, launched, local_rank, together

if TYPE_CHECKING:
    from cassle.engine.trainer import Training

FIRST = "CASSLE_FIRST_PROCESS"  # in the environment of processes that a run has started: their parent's id


def environment(processes: int) -> ClusterEnvironment:
    """Return where Lightning reads ranks and addresses: torchrun's, SLURM's, or its own, which starts processes."""
    started = launched()
    if processes == 1 or started is None:
        return LightningEnvironment()
    # Not left to Lightning: it would requeue SLURM jobs behind our back.
    return TorchElasticEnvironment() if started[0] == "torchrun" else SLURMEnvironment(auto_requeue=False)


def launch_problems(training: Training) -> list[str]:
    """Return where the processes that are there are not those that the flags describe, one sentence each."""
    processes, started = training.processes, launched()
    if started is None:
        return []
    by, number = started
    if number == processes or (by == "srun" and processes == 1):  # one srun may start many runs of one process
        return []
    flag = f"--gpus {','.join(map(str, training.gpus))}" if training.gpus else f"--devices {training.devices}"
    return [
        f"{flag} --num_nodes {training.num_nodes}: {processes} process(es) in all, but {by} has started {number}. Give "
        f"--devices the processes on each machine and --num_nodes the machines, so that their product is {number}; or "
        f"start without {by}."
    ]


def launcher_problems(trainer: pl.Trainer) -> list[str]:
    """Return why processes cannot be started as a trainer would do it, one sentence each."""
    if isinstance(trainer.strategy.launcher, _MultiProcessingLauncher):
        return [
            "--trainer_strategy: processes that are forked or spawned out of this one cannot continue a run; use ddp. "
            "In a notebook, run main_continual.py as a command, or train with --devices 1."
        ]
    return []


def meet(trainer: pl.Trainer) -> None:
    """Start the other processes, unless they are there, and wait until all have come; at the second call, nothing.

    Today's Lightning does this at the beginning of a fit. Here it comes first, so that the encoder is evaluated by all
    processes, and all go by the same ledger.
    """
    if together():
        return
    if FIRST in os.environ and launched() is None and local_rank() > 0:
        _end_with(int(os.environ[FIRST]))
    os.environ[FIRST] = str(os.getpid())  # for the processes that are started now
    with connected():
        trainer.strategy.launcher.launch(trainer.strategy.setup_environment)
        be_patient()


def _end_with(parent: int) -> None:
    """Let this process end soon after the one that has started it; Lightning itself does it the other way round only.

    A collective of GPUs would wait for half an hour, and so does the meeting itself.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(2)
        print("The first process of this run has ended; this one ends too.", file=sys.stderr, flush=True)
        os._exit(1)  # the main thread may be in a collective, from which nothing else leads out

    threading.Thread(target=watch, name="parent", daemon=True).start()


@contextmanager
def leaving_quietly() -> Iterator[None]:
    """Let a process that the run has started end with 0 where a signal stops it.

    At another code Lightning, which watches it, may kill the first process before that has ended with its own.
    """
    try:
        yield
    except SystemExit:
        if launched() is None and FIRST in os.environ:
            raise SystemExit(0) from None
        raise


class BatchNormSync(LayerSync):
    """What ``--sync_batchnorm`` makes of a model during a fit: batch norms over all processes.

    A batch norm changes its class and stays the same object, with its parameters, its hooks and its training flag: a
    frozen teacher stays in eval mode. On GPUs it becomes torch's ``SyncBatchNorm``, which has kernels of its own.

    Args:
        on_gpu: where the training runs.
    """

    def __init__(self, *, on_gpu: bool) -> None:
        self.kind = nn.SyncBatchNorm if on_gpu else SyncedBatchNorm
        self._were: list[tuple[nn.Module, type[nn.Module]]] = []

    def apply(self, model: nn.Module) -> nn.Module:
        """Synchronise the batch norms of a model."""
        for module in model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                self._were.append((module, type(module)))
                module.__class__, module.process_group = self.kind, None  # None: all processes
        return model

    def revert(self, model: nn.Module) -> nn.Module:
        """Make them what they were."""
        for module, kind in self._were:
            module.__class__ = kind
            del module.process_group
        self._were.clear()
        return model
