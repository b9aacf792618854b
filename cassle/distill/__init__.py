"""Distillation from the previous task's network."""

from cassle.registry import Registry

DISTILLERS = Registry(
    "distiller",
    {
        "contrastive": "cassle.distill.cassle:Contrastive",
        "decorrelative": "cassle.distill.cassle:Decorrelative",
        "predictive": "cassle.distill.cassle:Predictive",
        "predictive_mse": "cassle.distill.cassle:PredictiveMSE",
        "knowledge": "cassle.distill.cassle:Knowledge",
        "relational": "cassle.distill.cassle:Relational",
        "pfr": "cassle.distill.features:PFR",
        "less_forget": "cassle.distill.features:LessForget",
    },
    aliases={"lwf": "less_forget"},
)
