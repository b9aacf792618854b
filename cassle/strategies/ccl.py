"""CCL: exemplars of every task come back, repel what is compared, and keep their relations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cassle.checks import Count, NonNegative, Positive, Share
from cassle.data.batch import Batch
from cassle.losses import moco_info_nce
from cassle.losses.distributed import number_of_processes, process_rank
from cassle.losses.precision import in_full_precision
from cassle.methods.base import Outputs, SSLMethod
from cassle.methods.pairs import crosswise
from cassle.nn.kmeans import spherical_kmeans
from cassle.nn.modes import in_mode
from cassle.nn.queue import Queue
from cassle.processes import summed
from cassle.strategies.simple_replay import SimpleReplay
from cassle.strategies.slow import SlowTeacher

IMAGES_AT_ONCE = 256  # of the passes in which exemplars are chosen


class CCL(SimpleReplay):
    """CCL (Lin et al. 2022): replay of the steadiest images, which also repel all others and keep their relations.

    The published objective is MoCo v2+. Here the extra queue starts empty, not with the keys of the main queue, and the
    teacher takes the student's batch statistics along.
    """

    transient: ClassVar[tuple[str, ...]] = ("ccl_teacher.",)

    @classmethod
    def refuses(cls, method: type[SSLMethod], distiller: str | None) -> str | None:
        """A query needs the key of another view."""
        return "compares two views of an image; take an objective with two." if method.max_views == 1 else None

    def __init__(
        self,
        *args,
        exemplar_views: Count = 6,
        extra_queue_size: Count = 256,
        extra_queue_weight: NonNegative = 0.1,
        extra_queue_temperature: Positive = 0.2,
        relation_weight: NonNegative = 0.1,
        relation_teacher_temperature: Positive = 0.04,
        relation_temperature: Positive = 0.07,
        ccl_momentum: Share = 0.996,
        **kwargs,
    ) -> None:
        """Build the strategy.

        Args:
            args: arguments of the method.
            exemplar_views: random views by which images are judged, beside the evaluation view.
            extra_queue_size: keys of exemplars that serve as further negatives, for each of the two views; of all
                processes.
            extra_queue_weight: weight of InfoNCE against them.
            extra_queue_temperature: its temperature.
            relation_weight: weight of the distillation of the similarities between exemplars.
            relation_teacher_temperature: temperature of the teacher's similarities.
            relation_temperature: temperature of the student's.
            ccl_momentum: momentum of the teacher, which follows once an epoch.
            kwargs: arguments of ``SimpleReplay``.
        """
        super().__init__(*args, **kwargs)
        self.exemplar_views, self.ccl_momentum = exemplar_views, ccl_momentum
        self.extra_queues = nn.ModuleList(
            Queue(extra_queue_size, self.output_dim, random_start=False) for _ in range(2)
        )
        self.extra_queue_weight, self.extra_queue_temperature = extra_queue_weight, extra_queue_temperature
        self.relation_weight = relation_weight
        self.relation_temperatures = (relation_temperature, relation_teacher_temperature)
        self._keys: list[Tensor] | None = None

    # The teacher ----------------------------------------------------------------------------------------------------

    def begin_task(self, task: int, handoff: Mapping[str, Tensor] | None) -> None:
        """Start the teacher, and a momentum teacher that the objective has, as the student that was handed over."""
        super().begin_task(task, handoff)
        if task > 0:
            self.ccl_teacher = SlowTeacher({"backbone": self.backbone, "projector": self.projector}, "eval")
            if self.has_momentum_teacher:
                self.follow(*self.followed)

    def begin_epoch(self, epoch: int) -> None:
        """Let the teacher follow by the epoch that is over."""
        super().begin_epoch(epoch)
        if self.current_task > 0 and epoch > 0:
            self.ccl_teacher.follow(self.ccl_momentum, backbone=self.backbone, projector=self.projector)

    def end_task(self) -> None:
        """Let the teacher follow by the last epoch too; it is what may be evaluated."""
        if self.current_task > 0:
            self.ccl_teacher.follow(self.ccl_momentum, backbone=self.backbone, projector=self.projector)
        super().end_task()

    # The terms ------------------------------------------------------------------------------------------------------

    def targets(self, batch: Batch) -> list[Tensor]:
        """Return the momentum teacher's outputs, and remember them if they are projections: they serve as keys."""
        found = super().targets(batch)
        self._keys = found if self.followed == ("backbone", "projector") else None
        return found

    def losses(self, batch: Batch, out: Outputs) -> dict[str, Tensor]:
        """Add the contrast with exemplars and the distillation of their relations."""
        self._keys = None
        terms = super().losses(batch, out)
        if batch.num_replay:
            terms["extra_queue"] = self.extra_queue_weight * self._contrast(batch, out)
            terms["relations"] = self.relation_weight * self._relations(batch, out)
        return terms

    def _contrast(self, batch: Batch, out: Outputs) -> Tensor:
        """InfoNCE of every query with another view's key against old keys of exemplars; then theirs are queued.

        A key is the momentum teacher's projection where the objective compares with it, else the student's, detached.
        """
        z = [o["z"] for o in out[: batch.num_large]]
        keys = [key.detach() for key in self._keys or z]
        queues = [self.extra_queues[view % 2] for view in range(len(keys))]
        targets = [(key, queue.rows) for key, queue in zip(keys, queues, strict=True)]

        def loss(q: Tensor, target: tuple[Tensor, Tensor]) -> Tensor:
            return moco_info_nce(q, *target, temperature=self.extra_queue_temperature)

        value = crosswise(loss, z, targets)
        for key, queue in zip(keys, queues, strict=True):
            queue.push(key[batch.num_stream :])
        return value

    def _relations(self, batch: Batch, out: Outputs) -> Tensor:
        """Distil how the views of this process's exemplars relate to their evaluation views; mean over the views.

        The student's batch norms see the evaluation views of the exemplars by themselves (upstream: of all images).
        """
        first, teacher = batch.num_stream, self.ccl_teacher
        if batch.num_replay < 2:  # one exemplar relates to nothing
            return out[0]["z"].new_zeros(())
        centre = self.images.centre_of(batch.index[first:])
        anchors, anchors_bar = self(centre)["z"], teacher(centre)
        terms = [
            relation_kl(o["z"][first:], anchors, teacher(view[first:]), anchors_bar, *self.relation_temperatures)
            for o, view in zip(out, batch.large, strict=False)  # out has the small crops as well
        ]
        return torch.stack(terms).mean()

    # The exemplars --------------------------------------------------------------------------------------------------

    def choose(self, members: Tensor, draws: torch.Generator) -> Tensor:
        """Return, of every cluster of the evaluation views, the images whose views agree most."""
        centre, spread = self._judge(members)
        _, cluster = spherical_kmeans(centre.cpu(), self.clusters(), generator=draws)  # on the CPU it is exact
        return lowest_of_each(spread.cpu(), cluster, self.n_save)

    @torch.no_grad()
    def _judge(self, members: Tensor) -> tuple[Tensor, Tensor]:
        """Return the direction of each image's evaluation view (images, dim), and the spread of all its views.

        Each process takes its share of the images.
        """
        device = self.images.targets.device
        centre = torch.zeros(len(members), self.output_dim, device=device)
        spread = torch.zeros(len(members), device=device)
        parts = torch.arange(len(members)).split(IMAGES_AT_ONCE)
        with in_mode(self, training=False):
            for number in range(process_rank(), len(parts), number_of_processes()):
                rows = parts[number].to(device)
                looks = self._looks(members.to(device)[rows], number)
                centre[rows], spread[rows] = looks[0], spread_of(looks)
        return summed(centre), summed(spread)

    def _looks(self, index: Tensor, number: int) -> Tensor:
        """Return the directions (views, images, dim) of images: of the evaluation view, then of random ones."""
        views = [self.images.centre_of(index)]
        while len(views) <= self.exemplar_views:
            views += self.images.views_of(index, f"exemplars.{number}.{len(views)}")[: self.images.num_large]
        return torch.stack([F.normalize(self(view)["z"].float(), dim=1) for view in views[: self.exemplar_views + 1]])


def spread_of(looks: Tensor) -> Tensor:
    """Return, for every image, the squared distances of its normalised views from their normalised mean, summed.

    Args:
        looks: (views, images, dim), of length 1.
    """
    return (looks - F.normalize(looks.mean(dim=0), dim=1)).square().sum(dim=(0, 2))


def lowest_of_each(score: Tensor, cluster: Tensor, number: int) -> Tensor:
    """Return the rows with the ``number`` lowest scores of each cluster, both (rows,): lowest first, by cluster."""
    order = score.argsort(stable=True)
    order = order[cluster[order].argsort(stable=True)]
    counts = cluster.bincount()
    place = torch.arange(len(order)) - (counts.cumsum(0) - counts)[cluster[order]]
    return order[place < number]


@in_full_precision
def relation_kl(
    q: Tensor, anchors: Tensor, q_bar: Tensor, anchors_bar: Tensor, temperature: float, temperature_bar: float
) -> Tensor:
    """Return KL(softmax(q_bar.a_bar / tau_bar) || softmax(q.a / tau)), the mean over the rows, in nats.

    0 for a single row. Source: CCL (Lin et al. 2022), self-supervised knowledge distillation.

    Args:
        q: the student's projections of views, (rows, dim); normalised here, like all four.
        anchors: the student's projections of the evaluation views; gradients flow into both.
        q_bar: the teacher's projections of the views; no gradient flows into them.
        anchors_bar: the teacher's projections of the evaluation views; likewise.
        temperature: tau.
        temperature_bar: tau_bar; lower than tau, it sharpens the target.
    """
    q, anchors, q_bar, anchors_bar = (F.normalize(x, dim=1) for x in (q, anchors, q_bar.detach(), anchors_bar.detach()))
    target = F.softmax(q_bar @ anchors_bar.T / temperature_bar, dim=1)
    return F.kl_div(F.log_softmax(q @ anchors.T / temperature, dim=1), target, reduction="batchmean")
