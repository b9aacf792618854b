"""Vision transformers (Dosovitskiy et al. 2021) of any image and patch size; parts and names are timm's.

The weights load into timm's ``VisionTransformer(no_embed_class=True, qkv_bias=False)`` and back.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from cassle.checks import Count
from cassle.errors import ConfigError


class Attention(nn.Module):
    """Multi-head self-attention; queries, keys and values come from one matrix without bias."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens (batch, n, dim) to the same shape."""
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return self.proj(functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class MLP(nn.Module):
    """Two linear layers with GELU between them; the hidden one is four times as wide."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens (batch, n, dim) to the same shape."""
        return self.fc2(functional.gelu(self.fc1(x)))


class Block(nn.Module):
    """Attention and MLP, each on normalised tokens and added to what came in (pre-norm)."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.attn = nn.LayerNorm(dim, eps=1e-6), Attention(dim, heads)
        self.norm2, self.mlp = nn.LayerNorm(dim, eps=1e-6), MLP(dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens (batch, n, dim) to the same shape."""
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class PatchEmbedding(nn.Module):
    """One linear map of each patch, written as a convolution."""

    def __init__(self, patch_size: int, dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, dim, patch_size, stride=patch_size)

    def forward(self, images: Tensor) -> Tensor:
        """Map images (batch, 3, h, w) to a map of patches (batch, dim, h / patch, w / patch)."""
        return self.proj(images)


class VisionTransformer(nn.Module):
    """Patches and a class token through pre-norm blocks and a final norm.

    The class token has no position. Images of another size than ``image_size`` get interpolated positions.

    A subclass gives the width of the tokens and the number of heads.

    Attributes:
        grid: patches along a side.
        num_patches: ``grid ** 2``.
        num_features: ``dim``.
    """

    dim: int
    heads: int

    def __init__(
        self, image_size: int, *, patch_size: Count | None = None, depth: Count = 12, avg_pooling: bool = False
    ) -> None:
        """Build the network.

        Args:
            image_size: side in pixels of the images that the positions are learnt for.
            patch_size: side of a patch in pixels; default: 2 up to 32 pixels, 4 up to 64, else 16.
            depth: number of transformer blocks.
            avg_pooling: features are the mean over all tokens, class token included, instead of the class token.

        Raises:
            ConfigError: the patch size does not divide the image size.
        """
        super().__init__()
        dim, heads = self.dim, self.heads
        patch = patch_size or (2 if image_size <= 32 else 4 if image_size <= 64 else 16)
        if image_size % patch:
            fitting = [str(size) for size in range(1, image_size // 2 + 1) if image_size % size == 0]
            raise ConfigError(
                f"--patch_size {patch}: does not divide images of {image_size} pixels; "
                f"use one of {', '.join(fitting or ['1'])}, or another --size."
            )
        self.patch_size, self.grid, self.avg_pooling = patch, image_size // patch, avg_pooling
        self.num_patches, self.num_features = self.grid**2, dim
        self.cls_token = nn.Parameter(torch.empty(1, 1, dim))
        self.pos_embed = nn.Parameter(torch.empty(1, self.num_patches, dim))
        self.patch_embed = PatchEmbedding(patch, dim)
        self.blocks = nn.Sequential(*(Block(dim, heads) for _ in range(depth)))
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self._initialise()

    def _initialise(self) -> None:
        for parameter in (self.cls_token, self.pos_embed):
            nn.init.trunc_normal_(parameter, std=0.02)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def positions(self, height: int, width: int) -> Float[Tensor, "1 n dim"]:
        """Return the positions of ``height`` × ``width`` patches, interpolated bicubically if they are others."""
        if (height, width) == (self.grid, self.grid):
            return self.pos_embed
        learnt = self.pos_embed.unflatten(1, (self.grid, self.grid)).permute(0, 3, 1, 2)
        resized = functional.interpolate(learnt, (height, width), mode="bicubic", antialias=True)
        return resized.flatten(2).transpose(1, 2)

    def tokens(
        self, images: Float[Tensor, "batch 3 h w"], keep: Int[Tensor, "batch kept"] | None = None
    ) -> Float[Tensor, "batch tokens dim"]:
        """Return the normalised tokens after all blocks: the class token, then the patches row by row.

        Args:
            images: normalised images.
            keep: per image the indices of the patches that are seen (the tokens follow its order); default: all.

        Raises:
            ValueError: the patch size does not divide the images.
        """
        if images.shape[-2] % self.patch_size or images.shape[-1] % self.patch_size:
            raise ValueError(
                f"images of {images.shape[-2]} × {images.shape[-1]} pixels: not divisible by the patch size "
                f"{self.patch_size}; use a --size, or --small_crop_size, that is."
            )
        patches = self.patch_embed(images)
        x = patches.flatten(2).transpose(1, 2) + self.positions(*patches.shape[-2:])
        if keep is not None:
            x = x.gather(1, keep[..., None].expand(-1, -1, x.shape[-1]))
        return self.norm(self.blocks(torch.cat([self.cls_token.expand(len(x), -1, -1), x], dim=1)))

    def pool(self, tokens: Float[Tensor, "batch tokens dim"]) -> Float[Tensor, "batch dim"]:
        """Return the features that are in tokens: the class token, or the mean of all of them."""
        return tokens.mean(dim=1) if self.avg_pooling else tokens[:, 0]

    def forward(self, images: Float[Tensor, "batch 3 h w"]) -> Float[Tensor, "batch dim"]:
        """Map images to features."""
        return self.pool(self.tokens(images))


class ViTTiny(VisionTransformer):
    """ViT-Tiny: width 192, 3 heads; 192 features."""

    dim, heads = 192, 3


class ViTSmall(VisionTransformer):
    """ViT-Small: width 384, 6 heads; 384 features."""

    dim, heads = 384, 6


class ViTBase(VisionTransformer):
    """ViT-Base: width 768, 12 heads; 768 features."""

    dim, heads = 768, 12
