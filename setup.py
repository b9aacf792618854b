"""Packaging of cassle; tool settings live in pyproject.toml."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+)"', (HERE / "cassle" / "__init__.py").read_text()).group(1)

setup(
    name="cassle",
    version=VERSION,
    description="Continual self-supervised learning of visual representations on PyTorch Lightning",
    long_description=(HERE / "README.md").read_text(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10",
    packages=find_packages(include=["cassle", "cassle.*"]),
    install_requires=[
        "torch>=2.11",
        "torchvision>=0.26",
        "pytorch-lightning>=2.6.4,<2.7",  # 2.6.2 and 2.6.3 were malicious releases
        "torchmetrics",
        "einops",
        "scikit-learn",
        "safetensors",
        "jaxtyping",  # shapes in signatures; checked at run time in tests only
        "jsonargparse[signatures]",
        "rich",
        "matplotlib",
        "wandb",
    ],
    extras_require={
        "dali": ["nvidia-dali-cuda130>=2.0"],  # runs on a CPU too
        "video": ["av"],
        "timm": ["timm"],
        "umap": ["umap-learn"],
        "sweep": ["optuna"],
        "slurm": ["submitit"],
        "notebooks": ["jupyter"],
        "dev": [
            "pytest",
            "pytest-timeout",
            "pytest-xdist",
            "hypothesis",
            "beartype",
            "scipy",
            "ruff",
            "av",
            "nvidia-dali-cuda130>=2.0",
        ],
    },
)
