"""Self-supervised objectives, one a file."""

from cassle.registry import Registry

METHODS = Registry(
    "method",
    {
        "simclr": "cassle.methods.simclr:SimCLR",
        "supcon": "cassle.methods.simclr:SupCon",
        "mocov2plus": "cassle.methods.mocov2plus:MoCoV2Plus",
        "mocov3": "cassle.methods.mocov3:MoCoV3",
        "byol": "cassle.methods.byol:BYOL",
        "simsiam": "cassle.methods.simsiam:SimSiam",
        "barlow_twins": "cassle.methods.barlow_twins:BarlowTwins",
        "vicreg": "cassle.methods.vicreg:VICReg",
        "swav": "cassle.methods.swav:SwAV",
        "deepclusterv2": "cassle.methods.deepclusterv2:DeepClusterV2",
        "dino": "cassle.methods.dino:DINO",
        "nnclr": "cassle.methods.nnclr:NNCLR",
        "ressl": "cassle.methods.ressl:ReSSL",
        "wmse": "cassle.methods.wmse:WMSE",
        "emp_ssl": "cassle.methods.emp_ssl:EMPSSL",
        "mae": "cassle.methods.mae:MAE",
        "lejepa": "cassle.methods.lejepa:LeJEPA",
    },
    aliases={"moco": "mocov2plus", "deepcluster": "deepclusterv2", "emp": "emp_ssl"},
)
