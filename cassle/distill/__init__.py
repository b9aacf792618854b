"""Distillation from the previous task's network."""

from cassle.registry import Registry

DISTILLERS = Registry(
    "distiller",
    {
        "contrastive": "cassle.distill.cassle:Contrastive",
        "decorrelative": "cassle.distill.cassle:Decorrelative",
        "predictive": "cassle.distill.cassle:Predictive",
    },
)
