"""LARS: momentum SGD whose step is proportional to the size of the layer that it changes."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer


class LARS(Optimizer):
    """Layer-wise adaptive rate scaling (You et al. 2017, "Large Batch Training of Convolutional Networks", eq. 6).

    For each parameter w with gradient g::

        trust = eta * |w| / (|g| + weight_decay * |w| + 1e-8)      1 where |w| or |g| is 0
        g     = (g + weight_decay * w) * trust                     trust = min(trust / lr, 1) with clip_lr
        v     = momentum * v + g
        w     = w - lr * v

    A trust ratio of 1 where a norm is zero lets a zero-initialised weight move. Parameters of a step are worked on
    together (foreach kernels) and nothing is read back to the host.

    Args:
        params: parameters, or dictionaries of them; a group may override every option below.
        lr: learning rate; with ``clip_lr`` also the upper bound of a layer's own rate.
        momentum: in [0, 1); 0 keeps no state.
        weight_decay: L2 coefficient, added to the gradient before scaling.
        eta: the trust coefficient, the wanted |update| / |w| at lr = 1.
        clip_lr: never take a larger step than plain SGD with ``lr`` would (LARC's clipping).
        exclude_bias_n_norm: parameters with fewer than two axes (biases, norm scales) get neither scaling nor decay.

    Raises:
        ValueError: an option is outside its range.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        eta: float = 1e-3,
        clip_lr: bool = False,
        exclude_bias_n_norm: bool = False,
    ) -> None:
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "weight_decay": weight_decay,
            "eta": eta,
            "clip_lr": clip_lr,
            "exclude_bias_n_norm": exclude_bias_n_norm,
        }
        super().__init__(params, defaults)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group of parameters with its own options (arguments as in the class; ValueError likewise)."""
        options = {**self.defaults, **param_group}
        if not options["lr"] >= 0:
            raise ValueError(f"lr={options['lr']}: must be zero or more.")
        if not 0 <= options["momentum"] < 1:
            raise ValueError(f"momentum={options['momentum']}: must be in [0, 1), for example 0.9.")
        if not options["weight_decay"] >= 0:
            raise ValueError(f"weight_decay={options['weight_decay']}: must be zero or more.")
        if not options["eta"] > 0:
            raise ValueError(f"eta={options['eta']}: must be positive, for example 1e-3.")
        super().add_param_group(param_group)

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:
        """Change every parameter that has a gradient; return what ``closure``, if given, returned."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            # Foreach kernels take lists of one kind, and the norms of a list are stacked on one device.
            kinds: dict[Any, list[Tensor]] = {}
            for w in group["params"]:
                if w.grad is not None:
                    plain = group["exclude_bias_n_norm"] and w.ndim <= 1
                    kinds.setdefault((w.device, w.dtype, plain), []).append(w)
            for (_, _, plain), weights in kinds.items():
                grads = [w.grad for w in weights]
                updates = grads if plain else _scaled(weights, grads, group)
                self._descend(weights, updates, group)
        return loss

    def _descend(self, weights: list[Tensor], updates: list[Tensor], group: dict[str, Any]) -> None:
        if group["momentum"]:
            for w in weights:
                if "momentum_buffer" not in self.state[w]:
                    self.state[w]["momentum_buffer"] = torch.zeros_like(w)
            buffers = [self.state[w]["momentum_buffer"] for w in weights]
            torch._foreach_mul_(buffers, group["momentum"])
            torch._foreach_add_(buffers, updates)
            updates = buffers
        torch._foreach_add_(weights, updates, alpha=-group["lr"])


def _scaled(weights: list[Tensor], grads: list[Tensor], group: dict[str, Any]) -> list[Tensor]:
    """Return decayed and trust-scaled gradients; ``grads`` stay as they are, other code may look at them."""
    decay = group["weight_decay"]
    # The squares of a float16 gradient overflow beyond 256: half-precision norms are taken in float32.
    wide = torch.float32 if weights[0].dtype in (torch.float16, torch.bfloat16) else None
    w_norm = torch.stack(torch._foreach_norm(weights, 2, dtype=wide))
    g_norm = torch.stack(torch._foreach_norm(grads, 2, dtype=wide))
    trust = group["eta"] * w_norm / (g_norm + decay * w_norm + 1e-8)
    if group["clip_lr"]:
        trust = (trust / group["lr"]).clamp(max=1)  # lr = 0 gives inf, hence 1: the step is zero anyway
    trust = trust.where((w_norm > 0) & (g_norm > 0), 1.0)

    scaled = torch._foreach_add(grads, weights, alpha=decay)
    torch._foreach_mul_(scaled, trust.to(weights[0].dtype).unbind())
    return scaled
