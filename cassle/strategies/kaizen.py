"""Kaizen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from cassle.checks import Count, NonNegative, Positive
from cassle.data.batch import Batch
from cassle.distill.base import FrozenTeacher
from cassle.errors import ConfigError
from cassle.losses import labelled_cross_entropy, soft_label
from cassle.methods.base import Outputs
from cassle.nn.classifier import classifier
from cassle.nn.heads import mlp
from cassle.randomness import key
from cassle.strategies.labelled_replay import LabelledReplay

OVER_VIEWS = {"sum": torch.sum, "mean": torch.mean}


class Kaizen(LabelledReplay):
    """Kaizen (Tang et al., WACV 2024): a classifier of all classes learns beside the encoder, and neither forgets.

    Loss = objective + feature distillation (``--distiller``) + classifier_loss_weight * cross-entropy
    + soft_label_lamb * soft labels; all of them see the replayed images. The classifier's teacher is the previous
    task's encoder and classifier, made from the hand-off in ``begin_task`` and nowhere else; a resumed run takes it
    from its checkpoint.
    """

    transient: ClassVar[tuple[str, ...]] = ("classifier_teacher.", "logit_predictor.")
    wants_labels: ClassVar[bool] = True

    def __init__(
        self,
        *args,
        classifier_training: bool = True,
        classifier_layers: list[Count] | None = None,
        classifier_stop_gradient: bool = True,
        classifier_loss_weight: NonNegative = 1.0,
        classifier_reduction: Literal["sum", "mean"] = "sum",
        head_lr: Positive = 0.1,
        soft_label: bool = True,
        soft_label_lamb: NonNegative = 2.0,
        soft_label_reduction: Literal["sum", "mean"] = "mean",
        lambda_schedule: Literal["constant", "classes"] = "constant",
        soft_label_temperature: Positive = 1.0,
        soft_label_classes: Literal["all", "old"] = "all",
        soft_label_predictor: bool = False,
        soft_label_hidden_dim: Count = 2048,
        classifier_teacher_bn: Literal["eval", "train"] = "eval",
        **kwargs,
    ) -> None:
        """Build the strategy.

        Args:
            args: arguments of the method.
            classifier_training: train a classifier; without it, only the labelled replay is left.
            classifier_layers: widths of the classifier's hidden layers; default: none, it is linear.
            classifier_stop_gradient: the classifier does not move the encoder, so labels do not either (upstream).
            classifier_loss_weight: weight of the cross-entropy with the labels.
            classifier_reduction: the cross-entropies of the views are summed (upstream), or their mean is taken.
            head_lr: peak learning rate of the classifier, whatever the batch size; it rises and falls with the
                encoder's, and has no weight decay (upstream's --classifier_lr).
            soft_label: from task 1 on, keep the class probabilities near those of the previous task's network.
            soft_label_lamb: weight of these soft labels.
            soft_label_reduction: likewise over the views; 2 * mean (upstream) = 1 * sum.
            lambda_schedule: constant; or classes = soft_label_lamb * old / (old + new classes) of each task.
            soft_label_temperature: temperature of both probabilities; the term is multiplied by its square.
            soft_label_classes: compare the probabilities of all classes (upstream), or among the old ones only.
            soft_label_predictor: a perceptron between the classifier and the comparison, made anew for each task.
            soft_label_hidden_dim: its hidden width (Linear-BN-ReLU-Linear).
            classifier_teacher_bn: batch norm of the frozen encoder: eval = its own statistics, train = the batch's
                (upstream); where it is the distiller's, one pass serves both.
            kwargs: arguments of ``LabelledReplay``.
        """
        super().__init__(*args, **kwargs)
        self.classifier_training, self.classifier_layers = classifier_training, classifier_layers or []
        self.stop_gradient, self.classifier_weight = classifier_stop_gradient, classifier_loss_weight
        self.head_lr, self.over_views = head_lr, OVER_VIEWS[classifier_reduction]
        self.soft_label, self.soft_label_lamb = soft_label, soft_label_lamb
        self.over_soft_views, self.lambda_schedule = OVER_VIEWS[soft_label_reduction], lambda_schedule
        self.temperature_of_labels, self.soft_label_classes = soft_label_temperature, soft_label_classes
        self.soft_label_predictor, self.soft_label_hidden_dim = soft_label_predictor, soft_label_hidden_dim
        self.classifier_teacher_bn: Literal["eval", "train"] = classifier_teacher_bn
        self.follows, self.share_of_old = False, 1.0
        self._shared: list[tuple[Tensor, Tensor]] = []  # views, and what the distiller's teacher made of them

    def settle(self, *, num_classes: int = 0, **about) -> None:
        """Make the classifier, once the classes are known.

        Raises:
            ConfigError: the data set has no labels.
        """
        super().settle(num_classes=num_classes, **about)
        if not self.num_train:  # the call of the constructor
            return
        if not num_classes:
            raise ConfigError("--strategy kaizen: learns from labels, and this --dataset has none; use another one.")
        self.register_buffer("seen_classes", torch.zeros(num_classes, dtype=torch.bool))
        if self.classifier_training:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(key(self.seed, "classifier"))
                self.classifier = classifier(self.backbone.num_features, self.classifier_layers, num_classes)

    def begin_task(self, task: int, handoff: Mapping[str, Tensor] | None) -> None:
        """Freeze what the hand-off brought, if its classifier has learned any class."""
        super().begin_task(task, handoff)
        old = self.seen_classes.nonzero().flatten()
        self.follows = self.classifier_training and self.soft_label and task > 0 and len(old) > 0
        if not self.follows:
            return
        new = [c for c in self.task_classes.tolist() if c not in old.tolist()]
        self.share_of_old = len(old) / (len(old) + len(new)) if self.lambda_schedule == "classes" else 1.0
        compared = old if self.soft_label_classes == "old" else torch.arange(len(self.seen_classes))
        self.register_buffer("compared", compared, persistent=False)
        width = len(self.seen_classes)
        self.logit_predictor = (
            mlp(width, self.soft_label_hidden_dim, width) if self.soft_label_predictor else nn.Identity()
        )
        stages: dict[str, nn.Module] = {"classifier": self.classifier}
        if (shared := self._encoder_of_the_distiller()) is None:
            stages = {"backbone": self.backbone, **stages}
        else:
            shared.register_forward_hook(lambda net, views, feats: self._shared.append((views[0], feats)))
        self.classifier_teacher = FrozenTeacher(stages, self.classifier_teacher_bn)

    def _encoder_of_the_distiller(self) -> nn.Module | None:
        """Return the frozen encoder that the distiller has made, if it would give the same features."""
        teacher = getattr(self, "teacher", None)
        same = isinstance(teacher, FrozenTeacher) and teacher.bn == self.classifier_teacher_bn
        return teacher.stages["backbone"] if same else None

    def end_task(self) -> None:
        """Remember which classes have been learned."""
        super().end_task()
        self.seen_classes[self.task_classes.to(self.seen_classes.device)] = True

    def losses(self, batch: Batch, out: Outputs) -> dict[str, Tensor]:
        """Add the cross-entropy with the labels and, after the first task, with the soft labels."""
        self._shared.clear()
        terms = super().losses(batch, out)
        if not self.classifier_training:
            return terms
        feats = [o["feats"].detach() if self.stop_gradient else o["feats"] for o in out[: batch.num_large]]
        logits = [self.classifier(view) for view in feats]
        hard = torch.stack([labelled_cross_entropy(view, batch.targets) for view in logits])
        terms["classifier"] = self.classifier_weight * self.over_views(hard)
        if self.follows:
            soft = torch.stack([self._soft_label(*pair) for pair in zip(logits, batch.large, strict=True)])
            terms["soft_label"] = self.soft_label_lamb * self.share_of_old * self.over_soft_views(soft)
        self._shared.clear()
        return terms

    def _soft_label(self, logits: Tensor, view: Tensor) -> Tensor:
        """Compare the logits of a view with the frozen ones."""
        feats = next((feats for seen, feats in self._shared if seen is view), None)
        frozen = self.classifier_teacher(view if feats is None else feats)
        pair = (scores[:, self.compared] for scores in (self.logit_predictor(logits), frozen))
        return soft_label(*pair, temperature=self.temperature_of_labels)

    def parameter_groups(self) -> list[dict]:
        """Give the classifier a group of its own, whose rate peaks at ``head_lr``."""
        groups = super().parameter_groups()
        if self.classifier is None:
            return groups
        own = list(self.classifier.parameters())
        apart = {id(p) for p in own}
        rest = [{**group, "params": [p for p in group["params"] if id(p) not in apart]} for group in groups]
        return [*rest, {"params": own, "lr_scale": self.head_lr / self.optimization.scaled_lr, "weight_decay": 0.0}]
