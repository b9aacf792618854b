"""Self-supervised objectives, one a file."""

from cassle.registry import Registry

METHODS = Registry(
    "method",
    {
        "simclr": "cassle.methods.simclr:SimCLR",
        "barlow_twins": "cassle.methods.barlow_twins:BarlowTwins",
        "byol": "cassle.methods.byol:BYOL",
    },
)
