"""Batch norm over the images of all processes, on any device."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cassle.losses.distributed import gather_with_gradient, number_of_processes

Norm = nn.modules.batchnorm._BatchNorm


class SyncedBatchNorm(Norm):
    """Batch norm whose training statistics are those of all processes' batches together.

    torch's own ``SyncBatchNorm`` refuses tensors on the CPU. This one is made of differentiable operations and one
    collective, which carries each process's number, mean and variance; so are its gradients those of one process on
    the concatenated batch (``cassle.losses.distributed`` says why). Batches may be of unequal size. Statistics are
    computed in at least float32, also under autocast. Alone, or in eval mode, it is torch's batch norm.

    Shapes: (batch, channels, ...) in and out.
    """

    def _check_input_dim(self, x: Tensor) -> None:
        if x.dim() < 2:
            raise ValueError(f"batch norm: input of shape {tuple(x.shape)}; give (batch, channels, ...).")

    def forward(self, x: Tensor) -> Tensor:
        """Normalise, and follow the statistics with the running ones.

        Raises:
            ValueError: all processes together have one value per channel only.
        """
        if not self.training or number_of_processes() == 1:
            return super().forward(x)
        self._check_input_dim(x)
        with torch.autocast(x.device.type, enabled=False):
            values = x if x.dtype == torch.float64 else x.float()
            count, mean, var = _statistics_of_all(values)
            if count <= 1:
                raise ValueError("batch norm: one value per channel in all processes together; give a larger batch.")
            if self.track_running_stats:
                self._follow(mean.detach(), var.detach() * (count / (count - 1)))
            shape = (1, -1, *[1] * (x.dim() - 2))
            scale = (var + self.eps).rsqrt() * (1 if self.weight is None else self.weight)
            out = (values - mean.view(shape)) * scale.view(shape)
            return (out if self.bias is None else out + self.bias.view(shape)).to(x.dtype)

    @torch.no_grad()
    def _follow(self, mean: Tensor, var: Tensor) -> None:
        self.num_batches_tracked.add_(1)
        share = 1 / self.num_batches_tracked if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), share)
        self.running_var.lerp_(var.to(self.running_var.dtype), share)


def _statistics_of_all(x: Tensor) -> tuple[int, Tensor, Tensor]:
    """Return number, mean and biased variance (channels,) of the values of all processes; x (batch, channels, ...)."""
    axes = [axis for axis in range(x.dim()) if axis != 1]
    var, mean = torch.var_mean(x, dim=axes, correction=0)
    own = torch.cat([x.new_tensor([x.numel() // x.shape[1]]), mean, var])
    counts, means, variances = gather_with_gradient(own[None]).split([1, len(mean), len(mean)], dim=1)
    total = counts.sum()
    weights = counts / total
    # Deviations from the common mean: the difference of squares would lose its digits where the mean is large.
    mean = (weights * means).sum(dim=0)
    return int(total), mean, (weights * (variances + (means - mean).square())).sum(dim=0)
