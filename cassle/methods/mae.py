"""MAE."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from cassle.checks import Count, Momentum
from cassle.data.batch import Batch
from cassle.errors import ConfigError
from cassle.losses import mae
from cassle.methods.base import Outputs, SSLMethod
from cassle.nn.decoder import MaskedDecoder


class MAE(SSLMethod):
    """MAE (He et al. 2022): a transformer that sees a quarter of the patches; a small decoder paints the others."""

    auto_distiller = "predictive_mse"
    distill_defaults: ClassVar[dict[str, Any]] = {"distill_lamb": 1.0}
    min_views, max_views = 1, 1
    defaults: ClassVar[dict[str, Any]] = {
        "backbone": "vit_tiny", "num_crops": 1, "min_scale": 0.2,
        "color_jitter_prob": 0.0, "gray_scale_prob": 0.0, "gaussian_prob": 0.0,
    }  # fmt: skip

    def __init__(
        self,
        *args,
        mask_ratio: Momentum = 0.75,
        decoder_depth: Count = 4,
        decoder_heads: Count = 3,
        normalise_target: bool = False,
        **kwargs,
    ) -> None:
        """Build the method; z is the class token, without a projector.

        In distillation the student sees the visible patches only, the frozen teacher the whole image.

        Args:
            args: backbone (a vision transformer) and optimization, given by the house.
            mask_ratio: share of the patches that are hidden.
            decoder_depth: number of transformer blocks of the decoder.
            decoder_heads: attention heads of the decoder.
            normalise_target: give every patch mean 0 and variance 1 before it is compared.
            kwargs: arguments of ``SSLMethod``.

        Raises:
            ConfigError: the backbone has no patches, the heads do not divide its width, or the mask hides all or none.
        """
        super().__init__(*args, **kwargs)
        if not hasattr(self.backbone, "tokens"):
            raise ConfigError("--method mae: hides patches; use --backbone vit_tiny, vit_small or vit_base.")
        dim, patches = self.backbone.num_features, self.backbone.num_patches
        self.output_dim, self.normalise_target = dim, normalise_target
        self.num_kept = int(patches * (1 - mask_ratio))
        problems = []
        if dim % decoder_heads:
            problems.append(f"--decoder_heads {decoder_heads}: does not divide the width {dim}; give e.g. 3.")
        if not self.num_kept:
            problems.append(f"--mask_ratio {mask_ratio}: hides all of the {patches} patches; give less.")
        if self.num_kept == patches:
            problems.append(f"--mask_ratio {mask_ratio}: hides none of the {patches} patches; give more, e.g. 0.75.")
        if problems:
            raise ConfigError(problems)
        values = 3 * self.backbone.patch_size**2
        self.projector = nn.Identity()
        self.decoder = MaskedDecoder(dim, patches, values, depth=decoder_depth, heads=decoder_heads)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Map one view to the class token (``feats``, ``z``), the painted patches and where they were hidden."""
        order = torch.rand(len(x), self.backbone.num_patches, device=x.device).argsort(dim=1)
        keep = order[:, : self.num_kept]
        tokens = self.backbone.tokens(x, keep)
        hidden = torch.ones_like(order, dtype=torch.bool).scatter(1, keep, False)
        feats = self.backbone.pool(tokens)
        return {"feats": feats, "z": feats, "prediction": self.decoder(tokens, keep), "hidden": hidden}

    def losses(self, batch: Batch, out: Outputs) -> dict[str, Tensor]:
        """The squared error of the hidden patches."""
        prediction, hidden = out[0]["prediction"], out[0]["hidden"]
        patch = self.backbone.patch_size
        settings = {"patch_size": patch, "normalise_target": self.normalise_target}
        return {"mae": mae(prediction, batch.views[0], hidden, **settings)}
