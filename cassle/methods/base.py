"""The contract that every objective and every way not to forget speaks.

``forward`` maps one view to named tensors (``feats``, ``z``, maybe ``p``); ``losses`` maps a batch and the outputs of
its views to named terms; the base sums, guards and steps. A way not to forget overrides the same hooks and calls
``super()``: ``begin_task``, ``begin_epoch``, ``compose_batch``, ``losses``, ``after_step``, ``end_task``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import groupby
from typing import Any, ClassVar, Protocol

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from cassle.data.batch import Batch
from cassle.methods.guard import FiniteGuard
from cassle.methods.progress import Progress
from cassle.nn.state import load_strictly
from cassle.optim.build import Optimization
from cassle.randomness import generator

Outputs = list[dict[str, Tensor]]


class ViewSource(Protocol):
    """What makes views of training images by their positions; the loader does.

    Attributes:
        targets: class ids of all training images, (num_train,), int64; -1 without a label.
        members: positions of the task's images, int64.
        batch_size: images of a training batch, per process.
        num_large: number of full-size views; they come first.
    """

    targets: Tensor
    members: Tensor
    batch_size: int
    num_large: int

    def views_of(self, index: Tensor, purpose: str) -> list[Tensor]:
        """Return freshly drawn views of images, each (batch, 3, size, size)."""

    def centre_of(self, index: Tensor) -> Tensor:
        """Return the evaluation view of images, (batch, 3, size, size)."""


class SSLMethod(pl.LightningModule):
    """Base of every objective: an encoder ``backbone``, a ``projector``, and whatever else the objective adds."""

    #: prefixes of state that belongs to one task only and is not handed to the next
    transient: ClassVar[tuple[str, ...]] = ()
    #: name in ``DISTILLERS`` of the distiller that ``--distiller auto`` takes
    auto_distiller: ClassVar[str]
    #: defaults of the rest of the run's settings that are the paper's, e.g. the number of views
    defaults: ClassVar[Mapping[str, Any]] = {}
    #: defaults of the distiller's settings with ``--distiller auto``
    distill_defaults: ClassVar[Mapping[str, Any]] = {}
    #: fewest epochs of a task in which anything is learnt
    min_epochs: ClassVar[int] = 1
    #: what else may help when the loss is not finite
    remedy: ClassVar[str] = ""
    #: fewest full-size views of an image that the loss takes
    min_views: ClassVar[int] = 2
    #: most full-size views, None without a limit
    max_views: ClassVar[int | None] = None
    #: whether it takes the small crops of multi-crop
    multicrop: ClassVar[bool] = False
    #: whether the loss reads ``batch.targets``
    needs_labels: ClassVar[bool] = False
    #: whether there is a ``momentum_backbone``
    has_momentum_teacher: ClassVar[bool] = False
    #: whether there are ``prototypes``
    has_prototypes: ClassVar[bool] = False
    #: maps features to z; a subclass makes it
    projector: nn.Module
    #: maps z to p, where the objective has one
    predictor: nn.Module | None
    #: maps features to scores of all classes, where something learns them beside the encoder; it is evaluated too
    classifier: nn.Module | None
    #: width of z
    output_dim: int
    #: fewest images of a batch that the loss can do with
    smallest_batch: int = 2

    def __init__(
        self, backbone: nn.Module, optimization: Optimization | None = None, *, concat_views: bool = False
    ) -> None:
        """Build the method.

        Args:
            backbone: images (batch, 3, h, w) to features (batch, backbone.num_features); given by the house.
            optimization: optimizer and schedule; given by the house, the defaults of ``Optimization`` without one.
            concat_views: pass views of one size through the network as one batch, so that batch norm mixes them
                (faster); the default normalises each view by itself, as most published methods do.
        """
        super().__init__()
        self.backbone, self.predictor, self.classifier = backbone, None, None
        self.optimization = optimization or Optimization()
        self.concat_views = concat_views
        self.guard = FiniteGuard()
        self.current_task = 0
        self.progress = Progress()
        self.settle()

    def settle(
        self,
        *,
        seed: int = 0,
        num_train: int = 0,
        num_classes: int = 0,
        num_tasks: int = 1,
        images: ViewSource | None = None,
    ) -> None:
        """Hear of the run that the model is in; the house calls it when the data is known, before ``begin_task``.

        Args:
            seed: of the run.
            num_train: images of the training set, the range of ``batch.index``.
            num_classes: classes of the data set, 0 without labels.
            num_tasks: tasks of the run.
            images: makes views of any training image; None where nothing is trained.
        """
        self.seed, self.num_train, self.num_classes, self.num_tasks = seed, num_train, num_classes, num_tasks
        self.images = images

    def problems_with(self, batch_size: int, processes: int) -> list[str]:
        """Return why it cannot be trained on batches of this size (per process), one sentence each."""
        return []

    # The hooks ------------------------------------------------------------------------------------------------------

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Map one view (batch, 3, h, w) to ``feats`` (batch, features), ``z`` and maybe ``p`` (batch, output_dim)."""
        feats = self.backbone(x)
        z = self.projector(feats)
        out = {"feats": feats, "z": z}
        return out if self.predictor is None else {**out, "p": self.predictor(z)}

    def losses(self, batch: Batch, out: Outputs) -> dict[str, Tensor]:
        """Return the named scalar terms of the loss; their sum is minimised."""
        raise NotImplementedError(f"{type(self).__name__} does not define its losses")

    def begin_task(self, task: int, handoff: Mapping[str, Tensor] | None) -> None:
        """Prepare for a task: load the previous task's weights, make what lives for one task.

        Args:
            task: index of the task, from 0.
            handoff: state dict of the end of the previous task, or None for a fresh start.

        Raises:
            CheckpointError: the weights do not fit this architecture.
        """
        self.current_task = task
        if handoff is not None:
            load_strictly(self, handoff, ignore=self.transient)

    def begin_epoch(self, epoch: int) -> None:
        """Prepare for an epoch (from 0) of the task, before its first step; a resumed epoch is not begun again."""

    def compose_batch(self, batch: Batch) -> Batch:
        """Return the batch to train on; replay adds to it here."""
        return batch

    def after_step(self, step: int, total_steps: int) -> None:
        """Follow the optimizer's step number ``step`` (from 1) of ``total_steps`` of this task, e.g. move a teacher."""

    def end_task(self) -> None:
        """Finish the task, after its last step and before its checkpoint."""

    def held_back(self) -> Iterable[nn.Parameter]:
        """Return trainable parameters that the coming step must not move."""
        return ()

    # What nobody writes twice ---------------------------------------------------------------------------------------

    def draws(self, purpose: str, *coordinates: int) -> torch.Generator:
        """Return a CPU generator for this batch of this task, the same in every process."""
        purpose = f"{purpose}.{self.progress.part}" if self.progress.part else purpose
        return generator(self.seed, purpose, self.current_task, self.progress.step, *coordinates)

    def forward_views(self, views: list[Tensor]) -> Outputs:
        """Apply ``forward`` to every view: one by one, or with ``concat_views`` all of one size as one batch."""
        if not self.concat_views:
            return [self(view) for view in views]
        outputs: Outputs = []
        for _, group in groupby(views, key=lambda view: view.shape):
            alike = list(group)
            joint = {name: value.chunk(len(alike)) for name, value in self(torch.cat(alike)).items()}
            outputs += [{name: chunks[i] for name, chunks in joint.items()} for i in range(len(alike))]
        return outputs

    @property
    def _ddp_params_and_buffers_to_ignore(self) -> list[str]:
        """Buffers that DistributedDataParallel need not send before each step: all but the batch norms' are equal."""
        norms = {name for name, module in self.named_modules() if isinstance(module, nn.modules.batchnorm._NormBase)}
        return [name for name, _ in self.named_buffers() if name.rpartition(".")[0] not in norms]

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor | dict[str, Tensor]]:
        """Sum the terms; the guard looks at them while the backward pass runs."""
        batch = self.compose_batch(batch)
        terms = self.losses(batch, self.forward_views(batch.views))
        self.guard.watch(terms, batch.index)
        loss = torch.stack(list(terms.values())).sum()
        return {"loss": loss, "terms": {name: term.detach() for name, term in terms.items()}}

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Stop before a non-finite loss moves a weight; leave what is held back without a gradient."""
        self.guard.check(task=self.current_task, epoch=self.trainer.current_epoch, remedy=self.remedy)
        for parameter in self.held_back():
            parameter.grad = None

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Set position and learning rate: pure functions of the step, so there is no scheduler state to lose."""
        self.progress = self._plan.at(self.global_step, batch_idx % self.trainer.accumulate_grad_batches)
        self.optimization.set_lr(
            self.trainer.optimizers[0], self.global_step, self._plan.total_steps, self._plan.steps_per_epoch
        )
        if batch_idx == 0:  # on_train_epoch_start is not called for every way to resume
            self.begin_epoch(self.trainer.current_epoch)

    def on_train_start(self) -> None:
        """Read the plan of this task from the trainer once."""
        self._plan = Progress.of(int(self.trainer.estimated_stepping_batches), self.trainer.max_epochs)

    def optimizer_step(self, *args, **kwargs) -> None:
        """Step, then call ``after_step``: in here, so that a checkpoint saved at the end of the batch has both."""
        super().optimizer_step(*args, **kwargs)
        self.after_step(self.global_step + 1, self._plan.total_steps)

    def parameter_groups(self) -> list[dict]:
        """Return the optimizer's groups; every trainable parameter exactly once."""
        return [{"params": [p for p in self.parameters() if p.requires_grad]}]

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Build the optimizer for the batch that all processes and accumulated batches make together."""
        return self.optimization.build(self.parameter_groups())
