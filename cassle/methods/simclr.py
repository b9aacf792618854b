"""SimCLR and its supervised form."""

from __future__ import annotations

from torch import Tensor

from cassle.checks import Count, Positive
from cassle.data.batch import Batch
from cassle.losses import nt_xent, supcon
from cassle.methods.base import Outputs, SSLMethod
from cassle.nn.heads import mlp


class SimCLR(SSLMethod):
    """SimCLR (Chen et al. 2020): views of one image attract, all other images of the batch repel."""

    auto_distiller = "contrastive"
    multicrop = True

    def __init__(
        self,
        *args,
        output_dim: Count = 128,
        proj_hidden_dim: Count = 2048,
        temperature: Positive = 0.1,
        gather: bool = True,
        **kwargs,
    ) -> None:
        """Build the method.

        Args:
            args: backbone and optimization, given by the house.
            output_dim: width of the projection z.
            proj_hidden_dim: hidden width of the projector (Linear-ReLU-Linear, without batch norm).
            temperature: temperature of the contrastive loss.
            gather: use the images of all processes as negatives; upstream uses only its own.
            kwargs: arguments of ``SSLMethod``.
        """
        super().__init__(*args, **kwargs)
        self.output_dim, self.temperature, self.gather = output_dim, temperature, gather
        self.projector = mlp(self.backbone.num_features, proj_hidden_dim, output_dim, batch_norm=False)

    def losses(self, batch: Batch, out: Outputs) -> dict[str, Tensor]:
        """NT-Xent between all views, small crops too."""
        return {"nt_xent": nt_xent(*(o["z"] for o in out), temperature=self.temperature, gather=self.gather)}


class SupCon(SimCLR):
    """SupCon (Khosla et al. 2020): SimCLR in which images of one class attract as well; it needs labels."""

    needs_labels = True

    def losses(self, batch: Batch, out: Outputs) -> dict[str, Tensor]:
        """The supervised contrastive loss between all views; an image without a label has only its own views."""
        z = [o["z"] for o in out]
        return {"supcon": supcon(*z, targets=batch.targets, temperature=self.temperature, gather=self.gather)}
