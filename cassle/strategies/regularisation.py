"""SI and EWC: weights that mattered for earlier tasks are held where they were."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from cassle.checks import Count, NonNegative, Positive, Share
from cassle.data.batch import Batch
from cassle.losses.distributed import number_of_processes, process_rank
from cassle.methods.base import Outputs
from cassle.nn.modes import in_mode
from cassle.processes import summed
from cassle.randomness import generator, key
from cassle.strategies.base import Strategy


def flat(tensors: Iterable[Tensor]) -> Tensor:
    """Return all entries as one vector: a few large operations instead of many small ones."""
    return torch.cat([tensor.reshape(-1) for tensor in tensors])


class Regularisation(Strategy):
    """Base: a penalty ``strength * sum_k importance_k (theta_k - anchor_k)^2`` on the backbone, from task 1 on.

    The heads are free: they serve the objective of the present and are not what is handed to users. The anchor is what
    the hand-off brought, so it is transient; the importance is handed on.
    """

    transient: ClassVar[tuple[str, ...]] = ("anchor_weights",)
    alone: ClassVar[str] = "hold the weights of earlier tasks"
    #: factor of the penalty, set by a subclass
    strength: float
    #: name of the term
    term: ClassVar[str]

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        number = sum(weight.numel() for weight in self.held)
        self.register_buffer("importance", torch.zeros(number))
        self.register_buffer("anchor_weights", torch.zeros(number))

    @property
    def held(self) -> list[nn.Parameter]:
        """The weights that are held."""
        return [weight for weight in self.backbone.parameters() if weight.requires_grad]

    def begin_task(self, task: int, handoff: Mapping[str, Tensor] | None) -> None:
        """Hold on to the weights that the hand-off brought."""
        super().begin_task(task, handoff)
        self.anchor_weights.copy_(flat(self.held).detach())

    def losses(self, batch: Batch, out: Outputs) -> dict[str, Tensor]:
        """Add the penalty."""
        terms = super().losses(batch, out)
        if self.current_task > 0:
            away = flat(self.held) - self.anchor_weights
            terms[self.term] = self.strength * (self.importance * away.square()).sum()
        return terms


class SI(Regularisation):
    """SI (Zenke et al. 2017): a weight is important if its way through the task has lowered the loss.

    omega_k, the integral of minus gradient times motion along the way (eq. 3), is taken with the motion that the
    optimizer really makes and with the gradient of everything but the penalty, as in the paper: the penalty's own would
    call a weight important for having been pulled back. Gradients are taken before they are clipped.
    """

    transient: ClassVar[tuple[str, ...]] = (*Regularisation.transient, "path_integral")
    term = "si"
    remedy = " The penalty may be too strong: lower --si_lambda."

    def __init__(self, *args, si_lambda: NonNegative = 0.1, si_xi: Positive = 1.0, **kwargs) -> None:
        """Build the strategy.

        Args:
            args: arguments of the method.
            si_lambda: c, the weight of the penalty (eq. 4); how large it has to be depends on the objective: see
                the column si of metrics.csv.
            si_xi: xi, added to the squared way that a weight has gone in a task (eq. 5); the smaller, the more weights
                count that moved little. LUMP's comparison takes 1.
            kwargs: arguments of the method.
        """
        super().__init__(*args, **kwargs)
        self.strength, self.si_xi = si_lambda, si_xi
        self.register_buffer("path_integral", torch.zeros_like(self.importance))
        self._departure: tuple[Tensor, Tensor] | None = None  # weights and gradient before the optimizer's step

    def begin_task(self, task: int, handoff: Mapping[str, Tensor] | None) -> None:
        """Begin a new way."""
        super().begin_task(task, handoff)
        self.path_integral.zero_()

    @torch.no_grad()
    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Note where the step departs from, and the gradient there, without the penalty's."""
        super().on_before_optimizer_step(optimizer)
        weights = flat(self.held)
        gradient = flat(torch.zeros_like(w) if w.grad is None else w.grad for w in self.held)
        if self.current_task > 0:
            gradient -= 2 * self.strength * self.importance * (weights - self.anchor_weights)
        self._departure = weights, gradient

    @torch.no_grad()
    def after_step(self, step: int, total_steps: int) -> None:
        """Add the step to the integral."""
        super().after_step(step, total_steps)
        if self._departure is None:  # no optimizer has stepped
            return
        (weights, gradient), self._departure = self._departure, None
        gain = gradient * (weights - flat(self.held))
        # A step that the scaler of 16-bit floats left out has infinite gradients and moved nothing.
        self.path_integral += gain.nan_to_num_(nan=0.0, posinf=0.0, neginf=0.0)

    @torch.no_grad()
    def end_task(self) -> None:
        """Add this task's importance, omega / (way^2 + xi) (eq. 5); the sum never falls below 0.

        A negative one would push a weight away from where it was.
        """
        super().end_task()
        way = flat(self.held) - self.anchor_weights
        self.importance.add_(self.path_integral / (way.square() + self.si_xi)).clamp_(min=0)


class EWC(Regularisation):
    """EWC (Kirkpatrick et al. 2017), online: the penalty is lambda / 2 times the Fisher information (eq. 3).

    Of all earlier tasks there is one penalty around the latest weights, with the sum of their informations (Schwarz et
    al. 2018). A self-supervised loss belongs to a batch, so the information is the mean over batches, as large as those
    of the training, of the squared gradient of the batch's loss; its scale depends on the objective.
    """

    term = "ewc"
    remedy = " The penalty may be too strong: lower --ewc_lambda."

    def __init__(
        self,
        *args,
        ewc_lambda: NonNegative = 100.0,
        ewc_gamma: Share = 1.0,
        ewc_batches: Count = 100,
        **kwargs,
    ) -> None:
        """Build the strategy.

        Args:
            args: arguments of the method.
            ewc_lambda: lambda, twice the weight of the penalty; it has no published value for these losses: search
                it, by powers of ten, with an eye on the column ewc of metrics.csv.
            ewc_gamma: what remains of the information of earlier tasks at the end of each; 1 keeps it all.
            ewc_batches: batches of the task's images that the information is estimated from; at most all of them once.
            kwargs: arguments of the method.
        """
        super().__init__(*args, **kwargs)
        self.strength, self.ewc_gamma, self.ewc_batches = ewc_lambda / 2, ewc_gamma, ewc_batches

    def end_task(self) -> None:
        """Add the information of this task; nothing else of the model changes, though objectives remember batches."""
        super().end_task()
        state = {name: value.clone() for name, value in self.state_dict().items()}
        with in_mode(self, training=True):
            information = self._information()
        self.load_state_dict(state)
        self.importance.mul_(self.ewc_gamma).add_(information)

    def _information(self) -> Tensor:
        """Return the diagonal of the Fisher information: squared gradients of global batches, averaged."""
        total, world = torch.zeros_like(self.importance), number_of_processes()
        batches = self._batches()
        for number, index in enumerate(batches):
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(key(self.seed, "ewc", self.current_task, number, process_rank()))
                loss = self._loss(index, f"ewc.{number}")
            gradient = flat(torch.autograd.grad(loss, self.held, allow_unused=True, materialize_grads=True))
            total += (summed(gradient) / world).square()
        return total / len(batches)

    def _batches(self) -> list[Tensor]:
        """Return the positions of the images of each batch, this process's part of them."""
        members, world = self.images.members, number_of_processes()
        order = members[torch.randperm(len(members), generator=generator(self.seed, "ewc", self.current_task))]
        whole = self.images.batch_size * world
        parts = order[: len(order) // whole * whole].view(-1, world, self.images.batch_size)
        return list(parts[: self.ewc_batches, process_rank()].to(self.images.targets.device))

    def _loss(self, index: Tensor, purpose: str) -> Tensor:
        """Return the loss of these images, without the penalty."""
        views = self.images.views_of(index, purpose)
        batch = Batch(index, views, self.labels(index), self.images.num_large)
        terms = super().losses(batch, self.forward_views(views))
        terms.pop(self.term, None)
        return torch.stack(list(terms.values())).sum()
