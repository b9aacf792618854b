"""Five fixed renderings of gray digits: the domains of the embedded domain-incremental benchmark."""

from __future__ import annotations

import torch
from torch import Tensor

from cassle.randomness import generator


def _rgb(gray: Tensor) -> Tensor:
    return gray[:, None].expand(-1, 3, -1, -1).contiguous()


def plain(gray: Tensor) -> Tensor:
    """White ink on black paper, as scanned."""
    return _rgb(gray)


def inverted(gray: Tensor) -> Tensor:
    """Black ink on white paper."""
    return _rgb(255 - gray)


def coloured(gray: Tensor) -> Tensor:
    """Ink and paper of one random colour each, per image."""
    colours = torch.rand((len(gray), 2, 3, 1, 1), generator=generator(0, "coloured digits"))
    ink, paper = 0.5 + colours[:, 0] / 2, colours[:, 1] / 2  # ink is always the lighter of the two
    share = gray[:, None].float() / 255
    return (255 * (share * ink + (1 - share) * paper)).round().to(torch.uint8)


def noisy(gray: Tensor) -> Tensor:
    """Gaussian noise of standard deviation 40 (of 255) on every channel."""
    rgb = _rgb(gray).float()
    noise = 40 * torch.randn(rgb.shape, generator=generator(0, "noisy digits"))
    return (rgb + noise).round().clamp(0, 255).to(torch.uint8)


def outlined(gray: Tensor) -> Tensor:
    """Edges only: the absolute difference to the right and lower neighbours."""
    padded = torch.nn.functional.pad(gray.float()[:, None], (0, 1, 0, 1), mode="replicate")[:, 0]
    edges = (padded[:, :-1, 1:] - padded[:, :-1, :-1]).abs() + (padded[:, 1:, :-1] - padded[:, :-1, :-1]).abs()
    return _rgb(edges.clamp(0, 255).to(torch.uint8))


#: name to rendering, (n, h, w) uint8 to (n, 3, h, w) uint8; the order is the order of the tasks
RENDERINGS = {"plain": plain, "inverted": inverted, "coloured": coloured, "noisy": noisy, "outlined": outlined}
