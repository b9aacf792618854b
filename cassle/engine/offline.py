"""What ``main_linear.py`` evaluates, on which hardware, and where the numbers go."""

from __future__ import annotations

from pathlib import Path

import torch

from cassle.checks import Count
from cassle.engine.every_task import folder_problems
from cassle.engine.pretrained import Network
from cassle.errors import ConfigError
from cassle.nn import BACKBONES


class Offline:
    """What is evaluated, and where the numbers go."""

    def __init__(
        self,
        *,
        pretrained_feature_extractor: Path | None = None,
        backbone: str | None = None,
        network: Network = "student",
        size: Count | None = None,
        device: str = "auto",
        num_threads: Count | None = None,
        output: Path | None = None,
    ) -> None:
        """Describe the evaluation.

        Args:
            pretrained_feature_extractor: the checkpoint: a final.ckpt, or exported .safetensors, which describe
                themselves; or weights from elsewhere (torchvision, timm, solo-learn, CaSSLe, Kaizen, MoCo, DINO). Or
                the folder of an experiment: every task*/final.ckpt in it.
            backbone: what it is believed to hold, checked if given; weights from elsewhere need it, and may need its
                settings (--encoder is the same flag).
            network: of a final.ckpt, the student, or the teacher that follows it: that of CCL, AEP and APRE, or of an
                objective with a momentum teacher.
            size: of weights from elsewhere, the side of the training images in pixels; default: 224. Their
                --image_mean and --image_std are CIFAR-10's up to 64 pixels, else ImageNet's, unless given.
            device: auto = a GPU if there is one; or cpu, cuda, cuda:1, …
            num_threads: CPU threads of torch; default: torch's choice.
            output: JSON file that takes the results; default: linear.json beside the checkpoint, or in the folder;
                linear-DATASET.json for another data set than that of the training, see docs/metrics.md.

        Raises:
            ConfigError: no checkpoint is given, or there is no such file, backbone or device.
        """
        problems = [*_device_problems(device), *backbone_problems(backbone)]
        if pretrained_feature_extractor is None:
            problems.append("--pretrained_feature_extractor: missing; give a checkpoint, e.g. task4/final.ckpt.")
        elif pretrained_feature_extractor.is_dir():
            problems += folder_problems(pretrained_feature_extractor)
        elif not pretrained_feature_extractor.is_file():
            problems.append(f"--pretrained_feature_extractor {pretrained_feature_extractor}: no such file.")
        if problems:
            raise ConfigError(problems)
        self.checkpoint, self.backbone, self.network = pretrained_feature_extractor, backbone, network
        self.output = output
        self.device, self.num_threads = device, num_threads
        if device == "auto":
            self.device = "cuda" if torch.cuda.is_available() else "cpu"


def results_beside(checkpoint: Path, name: str) -> Path:
    """Return where a file of results goes: into the folder of an experiment, or beside a checkpoint."""
    return checkpoint / name if checkpoint.is_dir() else checkpoint.with_name(name)


def backbone_problems(name: str | None) -> list[str]:
    """Return why there is no such backbone, in one sentence; nothing for None."""
    try:
        if name is not None:
            BACKBONES.canonical(name)
    except ConfigError as error:
        return error.problems
    return []


def _device_problems(name: str) -> list[str]:
    if name == "auto":
        return []
    here = torch.cuda.device_count() if torch.cuda.is_available() else 0
    try:
        device = torch.device(name)
    except RuntimeError:
        return [f"--device {name}: must be auto, cpu, cuda, or cuda:0, cuda:1, …"]
    if device.type == "cuda" and (device.index or 0) >= here:
        return [f"--device {name}: no such CUDA device ({here} found); use --device cpu, without --gpus."]
    return []
