"""Networks: backbones, heads, and the exponential-moving-average teacher."""

from cassle.registry import Registry

BACKBONES = Registry(
    "backbone",
    {
        "tiny": "cassle.nn.tiny:TinyConvNet",
        "resnet18": "cassle.nn.resnet:resnet18",
        "resnet50": "cassle.nn.resnet:resnet50",
    },
)
