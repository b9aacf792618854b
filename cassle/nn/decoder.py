"""The decoder of masked autoencoders."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from cassle.nn.vit import Block


class MaskedDecoder(nn.Module):
    """Transformer blocks over the encoder's tokens in their places and a learnt token in the hidden ones.

    Args:
        dim: width of the tokens.
        num_patches: patches of an image.
        num_values: values of a patch, 3 * side ** 2.
        depth: number of blocks.
        heads: attention heads; divides ``dim``.
    """

    def __init__(self, dim: int, num_patches: int, num_values: int, *, depth: int, heads: int) -> None:
        super().__init__()
        self.num_patches = num_patches
        self.mask_token = nn.Parameter(torch.empty(1, 1, dim))
        self.pos_embed = nn.Parameter(torch.empty(1, 1 + num_patches, dim))
        self.blocks = nn.Sequential(*(Block(dim, heads) for _ in range(depth)))
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.head = nn.Linear(dim, num_values)
        for parameter in (self.mask_token, self.pos_embed):
            nn.init.trunc_normal_(parameter, std=0.02)

    def forward(
        self, tokens: Float[Tensor, "batch visible dim"], keep: Int[Tensor, "batch kept"]
    ) -> Float[Tensor, "batch patches values"]:
        """Return the values of all patches.

        Args:
            tokens: the class token, then the visible patches.
            keep: places of the visible patches.
        """
        classes, visible = tokens[:, :1], tokens[:, 1:]
        places = keep[..., None].expand(-1, -1, visible.shape[-1])
        patches = self.mask_token.to(visible.dtype).expand(len(visible), self.num_patches, -1)
        x = torch.cat([classes, patches.scatter(1, places, visible)], dim=1) + self.pos_embed
        return self.head(self.norm(self.blocks(x))[:, 1:])
