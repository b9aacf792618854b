"""LeJEPA: views predict each other, and every projection onto a line looks like a standard Gaussian."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from cassle.losses.distributed import number_of_processes, sum_over_processes
from cassle.losses.precision import in_full_precision

#: the paper's quadrature
KNOTS, LIMIT = 17, 5.0


def lejepa(
    z: Float[Tensor, "views batch dim"],
    directions: Float[Tensor, "slices dim"],
    *,
    lamb: float = 0.05,
    num_global: int | None = None,
    gather: bool = True,
) -> Float[Tensor, ""]:
    """Return ``(1 - lambda) prediction + lambda SIGReg``: no teacher, no stopped gradient, no predictor.

    Balestriero and LeCun 2025, "LeJEPA: Provable and Scalable Self-Supervised Learning Without the Heuristics"
    (arXiv 2511.08544), algorithm 2. The prediction term is the squared distance of every view from the mean of the
    global views of its image. Their eq. 7 sums it over the dimensions; their algorithm and their code take the mean,
    and so does this function: published values of lambda belong to the mean. SIGReg is taken view by view and averaged.

    Args:
        z: projections of all views, global ones first.
        directions: the lines of this step, see :func:`random_directions`; equal on every process.
        lamb: lambda, the share of SIGReg, the method's only hyper-parameter.
        num_global: how many of the first views make the mean; None for all.
        gather: see :func:`sigreg`. The prediction is a mean over samples, which needs no gathering.

    Returns:
        The loss, at least 0.

    Raises:
        ValueError: ``lamb`` is outside [0, 1] or ``num_global`` outside [1, views].
    """
    terms = lejepa_terms(z, directions, lamb=lamb, num_global=num_global, gather=gather)
    return terms["prediction"] + terms["sigreg"]


def lejepa_terms(
    z: Float[Tensor, "views batch dim"],
    directions: Float[Tensor, "slices dim"],
    *,
    lamb: float = 0.05,
    num_global: int | None = None,
    gather: bool = True,
) -> dict[str, Float[Tensor, ""]]:
    """Return the two weighted terms whose sum is :func:`lejepa`: ``prediction`` and ``sigreg``."""
    num_global = len(z) if num_global is None else num_global
    if not 0 <= lamb <= 1:
        raise ValueError(f"lamb={lamb}: must be between 0 and 1, for example 0.05.")
    if not 1 <= num_global <= len(z):
        raise ValueError(f"num_global={num_global}: must be between 1 and the number of views, {len(z)}.")
    return {
        "prediction": (1 - lamb) * _prediction(z, num_global),
        "sigreg": lamb * _epps_pulley(z, directions, KNOTS, LIMIT, gather).mean(),
    }


def sigreg(
    z: Float[Tensor, "batch dim"],
    directions: Float[Tensor, "slices dim"],
    *,
    knots: int = KNOTS,
    limit: float = LIMIT,
    gather: bool = True,
) -> Float[Tensor, ""]:
    """Return how far the batch is from an isotropic standard Gaussian: the mean Epps-Pulley statistic along lines.

    Balestriero and LeCun 2025, section 4 and algorithm 1. Along one direction, with x the projected samples and
    ``phi(t) = exp(-t^2 / 2)`` the characteristic function of N(0, 1),
    ``n * integral |1/n sum_j exp(i t x_j) - phi(t)|^2 phi(t) dt``, by the trapezoid rule on ``knots`` points in
    [-limit, limit]. (The authors' later code has 33 knots in [-3, 3].)

    Args:
        z: the projections, neither normalised nor centred.
        directions: unit rows, drawn anew in every step and equal on every process.
        knots: points of the rule, in steps of 0.625; samples that lie 2 pi / 0.625 = 10 apart look the same to it.
        limit: the largest t.
        gather: average the characteristic function over all processes, with n the number of all rows. Two numbers per
            direction and knot travel, not the batch.

    Returns:
        The mean over directions, at least 0; of the order of 1 for a Gaussian sample of any size, and proportional to
        n for anything else.

    Raises:
        ValueError: fewer than 2 knots, or a limit that is not positive.
    """
    return _epps_pulley(z, directions, knots, limit, gather).mean()


@in_full_precision
def _prediction(z: Float[Tensor, "views batch dim"], num_global: int) -> Float[Tensor, ""]:
    return (z - z[:num_global].mean(dim=0)).square().mean()


@in_full_precision
def _epps_pulley(
    z: Float[Tensor, "*views batch dim"],
    directions: Float[Tensor, "slices dim"],
    knots: int,
    limit: float,
    gather: bool,
) -> Float[Tensor, "*views slices"]:
    if knots < 2:
        raise ValueError(f"knots={knots}: must be at least 2, for example 17.")
    if limit <= 0:
        raise ValueError(f"limit={limit}: must be positive, for example 5.")
    x = z @ directions.T.to(z.dtype)
    step = 2 * limit / (knots - 1)
    # The integrand is even in t, and 0 at t = 0, where every characteristic function is 1: the positive half will do.
    t = torch.linspace(-limit, limit, knots, dtype=x.dtype, device=x.device)[(knots + 1) // 2 :]
    phi = torch.exp(-t.square() / 2)
    weight = 2 * step * phi
    weight[-1] /= 2  # the trapezoid rule's last point

    n = x.shape[-2] * (number_of_processes() if gather else 1)
    angle = x.unsqueeze(-1) * t
    sums = torch.stack([angle.cos().sum(dim=-3), angle.sin().sum(dim=-3)])
    real, imaginary = (sum_over_processes(sums) if gather else sums) / n
    return n * (((real - phi).square() + imaginary.square()) @ weight)


def random_directions(num: int, dim: int, generator: torch.Generator) -> Float[Tensor, "num dim"]:
    """Return ``num`` unit rows, uniform on the sphere, on the generator's device.

    Key the generator by the step: the directions are then new in every step and the same on every process.
    """
    rows = torch.randn(num, dim, generator=generator, device=generator.device)
    return F.normalize(rows, dim=1)
