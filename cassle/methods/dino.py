"""DINO."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from cassle.checks import Count, NonNegative, Positive, Whole
from cassle.data.batch import Batch
from cassle.losses import dino
from cassle.losses.dino import dino_centre
from cassle.methods.base import Outputs
from cassle.methods.momentum import MomentumMethod
from cassle.nn.heads import mlp
from cassle.nn.prototypes import Prototypes

CENTRE_MOMENTUM = 0.9


class DINO(MomentumMethod):
    """DINO (Caron et al. 2021): the student's distribution over prototypes becomes the centred, sharper teacher's."""

    auto_distiller = "knowledge"
    multicrop = True
    has_prototypes = True

    def __init__(
        self,
        *args,
        output_dim: Count = 256,
        proj_hidden_dim: Count = 2048,
        num_prototypes: Count = 4096,
        student_temperature: Positive = 0.1,
        teacher_temperature: Positive = 0.07,
        warmup_teacher_temperature: Positive = 0.04,
        warmup_teacher_temperature_epochs: NonNegative = 50,
        freeze_last_layer: Whole = 1,
        gather: bool = True,
        **kwargs,
    ) -> None:
        """Build the method.

        Args:
            args: backbone and optimization, given by the house.
            output_dim: width of z, the bottleneck before the last layer.
            proj_hidden_dim: hidden width of the three-layer projector.
            num_prototypes: outputs of the last layer, unit vectors compared with the normalised z.
            student_temperature: temperature of the student.
            teacher_temperature: temperature of the teacher after its warm-up.
            warmup_teacher_temperature: temperature of the teacher at the start of each task.
            warmup_teacher_temperature_epochs: epochs of the linear warm-up of the teacher's temperature.
            freeze_last_layer: epochs at the start of each task in which the last layer does not move.
            gather: centre over the images of all processes.
            kwargs: arguments of ``MomentumMethod``.
        """
        super().__init__(*args, **kwargs)
        self.output_dim, self.gather = output_dim, gather
        self.student_temperature, self.freeze_epochs = student_temperature, freeze_last_layer
        self.warm_up = (warmup_teacher_temperature, teacher_temperature, warmup_teacher_temperature_epochs)
        features = self.backbone.num_features
        self.projector = mlp(features, proj_hidden_dim, output_dim, layers=3, activation=nn.GELU, std=0.02)
        self.prototypes = nn.ModuleList([Prototypes(output_dim, num_prototypes)])
        self.register_buffer("centre", torch.zeros(num_prototypes))
        self.follow("backbone", "projector", "last_layer")

    @property
    def last_layer(self) -> Prototypes:
        """The prototypes, which the momentum teacher has a copy of."""
        return self.prototypes[0]

    @property
    def teacher_temperature(self) -> float:
        """The teacher's temperature of this step."""
        low, high, epochs = self.warm_up
        return low + (high - low) * min(self.progress.epoch / epochs, 1) if epochs else high

    def losses(self, batch: Batch, out: Outputs) -> dict[str, Tensor]:
        """Cross-entropy of every view with the teacher's other full-size views; then the centre moves."""
        student, teacher = [self.last_layer(o["z"]) for o in out], self.targets(batch)
        own, theirs = self.student_temperature, self.teacher_temperature
        value = dino(student, teacher, self.centre, student_temperature=own, teacher_temperature=theirs)
        self.centre = self.centre.lerp(dino_centre(teacher, gather=self.gather), 1 - CENTRE_MOMENTUM)
        return {"dino": value}

    def held_back(self) -> Iterable[nn.Parameter]:
        """The last layer, in the first epochs of a task."""
        return self.prototypes.parameters() if self.progress.epoch < self.freeze_epochs else ()
