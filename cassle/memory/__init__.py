"""What is kept of the past: memories of fixed size, one rule of selection a file."""

from cassle.registry import Registry

MEMORIES = Registry(
    "memory",
    {
        "fifo": "cassle.memory.fifo:FIFO",
        "fifo_last": "cassle.memory.fifo:FIFOLast",
        "reservoir": "cassle.memory.reservoir:Reservoir",
        "minred": "cassle.memory.minred:MinRed",
        "class_balanced": "cassle.memory.balanced:ClassBalanced",
        "first_k": "cassle.memory.exemplars:FirstExemplars",
        "random": "cassle.memory.exemplars:RandomExemplars",
        "herding": "cassle.memory.exemplars:Herding",
    },
)
