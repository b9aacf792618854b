"""A linear probe that learns beside the encoder and never touches it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn import functional

from cassle.data.centre import centre_view
from cassle.data.module import TaskImages
from cassle.data.pixels import request
from cassle.data.recipe import Recipe
from cassle.errors import ConfigError
from cassle.evaluation.features import extract_features
from cassle.evaluation.metrics import accuracy_per_task
from cassle.losses.distributed import number_of_processes
from cassle.nn.modes import in_mode
from cassle.processes import carried_on, summed
from cassle.randomness import generator


class OnlineProbe:
    """The online linear probe: how well the classes can be told apart, watched during training.

    Features come from the backbone in eval mode, without gradients and without augmentation: neither its weights nor
    its batch-norm statistics see the probe. The probe is one linear layer over all classes; it is carried from task to
    task.
    """

    def __init__(
        self,
        *,
        disable_online_eval: bool = False,
        classifier_lr: float = 0.3,
        online_eval_batch_size: int | None = None,
        online_eval_data: Literal["all_tasks", "seen_tasks", "current_task"] = "all_tasks",
        momentum_classifier: bool = False,
        check_val_every_n_epoch: int = 1,
    ) -> None:
        """Describe the probe.

        Args:
            disable_online_eval: train without the online probe.
            classifier_lr: learning rate of the probe (sgd with momentum 0.9, cosine over the task).
            online_eval_batch_size: labelled images per step and process, 2 or more; default: --batch_size.
            online_eval_data: labelled training images that it learns from: all_tasks (upstream), seen_tasks,
                current_task.
            momentum_classifier: a second probe, on the momentum teacher's backbone (for methods that have one).
            check_val_every_n_epoch: epochs between its evaluations on the validation set; the last epoch always is one.

        Raises:
            ConfigError: a setting is out of range.
        """
        self.disabled = disable_online_eval
        self.lr, self.batch_size, self.data = classifier_lr, online_eval_batch_size, online_eval_data
        self.momentum = momentum_classifier
        self.every_n_epochs = check_val_every_n_epoch
        problems = [
            f"--{name} {value}: must be {words}."
            for name, value, words, good in (
                ("classifier_lr", classifier_lr, "above 0", classifier_lr > 0),
                (
                    "online_eval_batch_size",
                    self.batch_size,
                    "at least 2: the probe normalises its features over them",
                    self.batch_size is None or self.batch_size >= 2,
                ),
                ("check_val_every_n_epoch", self.every_n_epochs, "at least 1", self.every_n_epochs >= 1),
            )
            if not good
        ]
        if problems:
            raise ConfigError(problems)


class OnlineProbeCallback(pl.Callback):
    """Trains an :class:`OnlineProbe` after every training step and reports it at the end of epochs.

    The features are normalised by a batch norm without parameters, so that one learning rate serves every backbone.

    Args:
        settings: the probe's settings.
        network: ``backbone``, or ``momentum`` for the backbone of the method's momentum teacher.
        images: the loaded data set; it must have labels.
        recipe: size and statistics of the evaluation view.
        batch_size: labelled images per step, unless the settings say otherwise.
        seed: seed of the run.
        task: index of the task.
        report: dictionary that takes the numbers of each epoch.
    """

    def __init__(
        self,
        settings: OnlineProbe,
        network: Literal["backbone", "momentum"],
        images: TaskImages,
        recipe: Recipe,
        *,
        batch_size: int,
        seed: int,
        task: int,
        report: dict[str, float],
    ) -> None:
        self.settings, self.images, self.recipe, self.report = settings, images, recipe, report
        self.network: Literal["backbone", "momentum"] = network
        self.prefix = "" if network == "backbone" else "momentum_"
        self.batch_size = settings.batch_size or batch_size
        self.seed, self.task = seed, task
        chosen = {"all_tasks": slice(None), "seen_tasks": slice(task + 1), "current_task": slice(task, task + 1)}
        members = torch.cat(images.split.train[chosen[settings.data]])
        self.members = members[images.train.targets.cpu()[members] >= 0]
        self.probe: nn.Sequential | None = None
        self._loaded: dict[str, Any] | None = None
        self._sums: Tensor | None = None
        self._asked: dict[int, tuple[Tensor, Callable[[], Tensor]]] = {}  # by step: what is being read

    @property
    def state_key(self) -> str:
        """Name of the state in a checkpoint; one per network."""
        return f"{type(self).__name__}.{self.network}"

    def setup(self, trainer: pl.Trainer, model: pl.LightningModule, stage: str) -> None:
        """Make the linear layer and its optimizer on the device, or take them from the checkpoint."""
        device = trainer.strategy.root_device
        width = model.backbone.num_features
        linear = nn.Linear(width, len(self.images.classes))
        nn.init.zeros_(linear.weight)  # a convex problem: zero is as good a start as any, and keyed to nothing
        nn.init.zeros_(linear.bias)
        self.probe = nn.Sequential(nn.BatchNorm1d(width, affine=False), linear).to(device)
        self.optimizer = torch.optim.SGD(linear.parameters(), lr=self.settings.lr, momentum=0.9, foreach=True)
        self._sums = torch.zeros(3, device=device, dtype=torch.float64)
        self._first, self._precision = trainer.is_global_zero, trainer.precision_plugin.forward_context
        self._pixels = self.images.train.pixels.to(device)
        self._targets = self.images.train.targets.to(device)
        self._take_over()

    def start_from(self, weights: dict[str, Tensor]) -> None:
        """Continue with the probe of the previous task."""
        self._loaded = {"probe": weights}

    def _take_over(self) -> None:
        # Not in on_train_start: that is not called when the checkpoint is that of the last step.
        if self._loaded:
            self.probe.load_state_dict(self._loaded["probe"])
            if "optimizer" in self._loaded:
                self.optimizer.load_state_dict(self._loaded["optimizer"])
                sums = self._loaded["sums"].to(self._sums.device)
                self._sums = carried_on(sums, self._loaded.get("processes"), first=self._first)
            self._loaded = None

    def _encode(self, model: pl.LightningModule, images: Tensor) -> Tensor:
        """Return features (batch, dim) of uint8 images from the backbone in eval mode."""
        recipe, border = self.recipe, self.images.eval_border
        view = centre_view(images, recipe.size, recipe.mean, recipe.std, border)
        backbone = model.backbone if self.network == "backbone" else model.momentum_backbone
        with torch.no_grad(), self._precision(), in_mode(backbone, training=False):
            return backbone(view).float()

    def _drawn(self, step: int, rank: int) -> tuple[Tensor, Tensor]:
        """Return positions (batch,), on the CPU, and images of a step; those of the next step begin to be read."""

        def ask(step: int) -> tuple[Tensor, Callable[[], Tensor]]:
            draws = generator(self.seed, "online", self.task, step, rank)
            index = self.members[torch.randint(len(self.members), (self.batch_size,), generator=draws)]
            return index, request(self._pixels, index)

        index, images = self._asked.pop(step, None) or ask(step)
        self._asked = {step + 1: ask(step + 1)}
        return index, images()

    def on_train_batch_end(
        self, trainer: pl.Trainer, model: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Take one step on a random labelled batch."""
        step = trainer.current_epoch * trainer.num_training_batches + batch_idx
        index, images = self._drawn(step, trainer.global_rank)
        features = self._encode(model, images)
        targets = self._targets[index.to(self._targets.device, non_blocking=True)]
        with torch.enable_grad():
            logits = self.probe(features)
            loss = functional.cross_entropy(logits, targets)
            self.optimizer.zero_grad()
            loss.backward()
        if trainer.world_size > 1:
            for parameter in self.probe.parameters():
                parameter.grad = summed(parameter.grad) / trainer.world_size
        total = trainer.num_training_batches * trainer.max_epochs
        self.optimizer.param_groups[0]["lr"] = self.settings.lr * (1 + math.cos(math.pi * step / total)) / 2
        self.optimizer.step()
        hits = (logits.detach().argmax(1) == targets).double().mean()
        self._sums += torch.stack([loss.detach().double(), hits, torch.ones_like(hits)])

    def on_train_epoch_end(self, trainer: pl.Trainer, model: pl.LightningModule) -> None:
        """Report the epoch's means, and at times the accuracy on the validation set."""
        loss, hits, count = summed(self._sums).tolist()
        self._sums.zero_()
        self._tell({"online_loss": loss / count, "online_acc": hits / count})
        due = (trainer.current_epoch + 1) % self.settings.every_n_epochs == 0
        if self.images.val is not None and (due or trainer.current_epoch + 1 == trainer.max_epochs):
            self._tell(self._validate(model))

    def _tell(self, numbers: dict[str, float]) -> None:
        self.report.update({self.prefix + name: value for name, value in numbers.items()})

    def _validate(self, model: pl.LightningModule) -> dict[str, float]:
        val, split = self.images.val, self.images.split
        features = extract_features(
            lambda images: self._encode(model, images),
            val.pixels.to(self._pixels.device),
            batch_size=self.batch_size,
            transform=lambda images: images,
        )
        with torch.no_grad():
            predictions = self.probe.eval()(features.to(self._pixels.device)).argmax(1).cpu()
        self.probe.train()
        tasks = split.val_tasks(len(val.targets))
        per_task = split.per_task(accuracy_per_task(predictions, val.targets, tasks, split.num_val_tasks))
        mean = (predictions == val.targets).double().mean().item()
        return {"val_acc": mean, **{f"val_acc_task{task}": value for task, value in enumerate(per_task)}}

    def state_dict(self) -> dict[str, Any]:
        """Return the probe, its optimizer, and the sums of the running epoch over all processes."""
        sums = {"sums": summed(self._sums), "processes": number_of_processes()}
        return {"probe": self.probe.state_dict(), "optimizer": self.optimizer.state_dict(), **sums}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a saved state."""
        self._loaded = state
        if self.probe is not None:  # else when it exists
            self._take_over()
