"""Networks: backbones, heads, and the exponential-moving-average teacher."""

from cassle.registry import Registry

BACKBONES = Registry(
    "backbone",
    {
        "tiny": "cassle.nn.tiny:TinyConvNet",
        "resnet18": "cassle.nn.resnet:resnet18",
        "resnet34": "cassle.nn.resnet:resnet34",
        "resnet50": "cassle.nn.resnet:resnet50",
        "wide_resnet18": "cassle.nn.wide_resnet:wide_resnet18",
        "slim_resnet18": "cassle.nn.wide_resnet:slim_resnet18",
        "resnet9": "cassle.nn.resnet9:resnet9",
        "wide_resnet9": "cassle.nn.resnet9:wide_resnet9",
        "slim_resnet9": "cassle.nn.resnet9:slim_resnet9",
        "vit_tiny": "cassle.nn.vit:ViTTiny",
        "vit_small": "cassle.nn.vit:ViTSmall",
        "vit_base": "cassle.nn.vit:ViTBase",
    },
    families={"timm/": "cassle.nn.timm_models:timm_model"},
)
