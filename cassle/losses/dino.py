"""DINO: the student's views match the sharpened, centred distribution of the teacher's large views."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from cassle.losses.distributed import number_of_processes, sum_over_processes
from cassle.losses.precision import in_full_precision


def dino(
    student: Sequence[Float[Tensor, "batch prototypes"]],
    teacher: Sequence[Float[Tensor, "batch prototypes"]],
    centre: Float[Tensor, " prototypes"],
    *,
    student_temperature: float = 0.1,
    teacher_temperature: float = 0.07,
) -> Float[Tensor, ""]:
    """Return the mean cross-entropy ``H(P_t(x), P_s(x'))`` over pairs of different views x and x' of an image.

    Caron et al. 2021, "Emerging Properties in Self-Supervised Vision Transformers", eq. 1 to 3 and section 3.1, with
    ``P_s = softmax(student / tau_s)`` and ``P_t = softmax((teacher - centre) / tau_t)``. The paper sums over the
    pairs; the mean keeps the scale when the number of views changes, as the authors' code does.

    It is a mean over samples, so it needs no gathering: averaging the processes' gradients is exact.

    Args:
        student: the student's outputs of all V views, large ones first.
        teacher: the teacher's outputs of the first G <= V views; no gradient flows into them.
        centre: running mean of the teacher's outputs, see :func:`dino_centre`.
        student_temperature: tau_s.
        teacher_temperature: tau_t; lower than tau_s, it sharpens the targets.

    Returns:
        The mean over pairs and samples, in nats.

    Raises:
        ValueError: a temperature is not positive, the teacher has more views than the student, or no pair is left.
    """
    for name, value in (("student_temperature", student_temperature), ("teacher_temperature", teacher_temperature)):
        if value <= 0:
            raise ValueError(f"{name}={value}: must be positive, for example 0.1 (student) or 0.04 (teacher).")
    if not 1 <= len(teacher) <= len(student) or len(student) < 2:
        raise ValueError(
            f"{len(student)} student views and {len(teacher)} teacher views: give at least 2 student views, and the "
            f"teacher's outputs of the first 1 to {max(len(student), 1)} of them."
        )
    return _cross_entropies(centre, len(student), student_temperature, teacher_temperature, *student, *teacher)


# The views are single arguments here, because inside a list their precision would go unnoticed.
@in_full_precision
def _cross_entropies(
    centre: Float[Tensor, " prototypes"],
    num_student: int,
    student_temperature: float,
    teacher_temperature: float,
    *views: Float[Tensor, "batch prototypes"],
) -> Float[Tensor, ""]:
    log_p = [F.log_softmax(view / student_temperature, dim=1) for view in views[:num_student]]
    targets = [F.softmax((view.detach() - centre) / teacher_temperature, dim=1) for view in views[num_student:]]
    pairs = [-(q * log).sum(dim=1).mean() for g, q in enumerate(targets) for v, log in enumerate(log_p) if v != g]
    return torch.stack(pairs).mean()


@torch.no_grad()
def dino_centre(
    teacher: Sequence[Float[Tensor, "batch prototypes"]], *, gather: bool = True
) -> Float[Tensor, " prototypes"]:
    """Return the mean of the teacher's outputs, the term that enters the running centre.

    Caron et al. 2021, eq. 4: ``c <- m c + (1 - m) mean``; the caller keeps c and m (0.9).

    Args:
        teacher: the teacher's outputs, one tensor for each large view.
        gather: take the mean over all processes, which must hold equally many rows.

    Returns:
        The mean over views, rows and processes, without gradient, in at least float32.

    Raises:
        ValueError: there is no view.
    """
    if not teacher:
        raise ValueError("no teacher views: give the teacher's outputs of at least one view.")
    return _mean_output(gather, *teacher)


@in_full_precision
def _mean_output(gather: bool, *views: Float[Tensor, "batch prototypes"]) -> Float[Tensor, " prototypes"]:
    mean = torch.stack([view.mean(dim=0) for view in views]).mean(dim=0)
    return sum_over_processes(mean) / number_of_processes() if gather else mean
