"""From weights, of this library or from elsewhere, to an encoder that maps images to features, or to a start."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from cassle.data.benchmarks import CIFAR10, IMAGENET_MEAN, IMAGENET_STD
from cassle.data.centre import centre_view
from cassle.engine import card, checkpoint
from cassle.engine.foreign import backbone_weights
from cassle.engine.settings import Component, Schema
from cassle.errors import CheckpointError, ConfigError
from cassle.methods.base import SSLMethod
from cassle.nn import BACKBONES
from cassle.nn.resnet import SMALL_IMAGE
from cassle.nn.state import load_strictly

Network = Literal["student", "teacher"]
#: where a checkpoint holds the backbone of a network; of several teachers the strategy's comes first
PREFIXES: dict[Network, tuple[str, ...]] = {
    "student": ("backbone.",),
    "teacher": ("ccl_teacher.stages.backbone.", "slow.stages.backbone.", "momentum_teacher.stages.backbone."),
}


class Encoder(nn.Module):
    """A backbone with its preprocessing: images to features.

    Args:
        backbone: normalised images (batch, 3, size, size) to features (batch, num_features).
        size: side in pixels of the images that the backbone was trained on.
        mean: statistics of its training images, per channel, of [0, 1] images.
        std: likewise.
    """

    def __init__(self, backbone: nn.Module, size: int, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.backbone = backbone
        self.num_features: int = backbone.num_features
        self.size, self.mean, self.std = size, tuple(mean), tuple(std)

    def forward(self, images: Tensor) -> Tensor:
        """Map square images (batch, 3, h, w), uint8 or floats in [0, 1], to features (batch, num_features).

        Raises:
            ValueError: images of another shape or kind.
        """
        if images.dim() != 4 or images.shape[1] != 3 or images.shape[2] != images.shape[3]:
            raise ValueError(
                f"images of shape {tuple(images.shape)}: give square colour images (batch, 3, side, side)."
            )
        if images.is_floating_point():
            if images.numel() and not 0 <= float(images.min()) <= float(images.max()) <= 1:
                raise ValueError(
                    "images: floats must lie in [0, 1], not normalised; the encoder normalises them itself."
                )
            images = (images * 255).round().to(torch.uint8)
        return self.backbone(centre_view(images, self.size, self.mean, self.std))


def read_encoder(
    path: str | Path,
    backbone: str | None = None,
    *,
    size: int | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    network: Network = "student",
    **settings: Any,
) -> tuple[Encoder, dict[str, Any]]:
    """Return the encoder of a file of weights, and the settings that it was trained with.

    Args:
        path: a ``final.ckpt`` or an exported ``.safetensors`` with its card, which describe themselves; or weights from
            elsewhere (:mod:`cassle.engine.foreign`), which are described by the other arguments.
        backbone: name of the backbone; of a file that describes itself it is checked.
        size: side of the training images in pixels; default: 224.
        mean: their mean per channel; default: CIFAR-10's up to 64 pixels (upstream's for all small images), else
            ImageNet's.
        std: their standard deviation, likewise.
        network: of a ``final.ckpt``, the student, or the teacher that follows it (CCL's, AEP's and APRE's, or that of
            an objective with a momentum teacher).
        settings: settings of the backbone, e.g. ``stem_padding=2`` for CaSSLe's own small-image networks.

    Returns:
        The encoder in eval mode; and the settings by name, empty for weights from elsewhere.

    Raises:
        CheckpointError: missing, damaged, unsafe, of another architecture, or from elsewhere without a ``backbone``.
        ConfigError: a wrong setting, or one for a file that describes itself.
    """
    path = Path(path)
    content, about = read(path, network)
    given = {name: v for name, v in {"size": size, "mean": mean, "std": std, **settings}.items() if v is not None}
    if about is not None:
        check_name(path, about, backbone)
        if given:
            raise ConfigError(f"{path}: describes itself; leave out {', '.join(f'--{name}' for name in given)}.")
        net = _built(about["backbone"], about["size"], about["config"], source=path)
        size, mean, std = about["size"], about["mean"], about["std"]
    elif backbone is None:
        raise CheckpointError(
            f"{path}: not a final.ckpt of cassle, nor exported by it (it has the entries "
            f"{sorted(map(str, content))[:6]}). If it holds weights from elsewhere, name their --backbone."
        )
    else:
        backbone = BACKBONES.canonical(backbone)
        size = 224 if size is None else size
        small = size <= SMALL_IMAGE
        mean = mean or (CIFAR10.mean if small else IMAGENET_MEAN)
        std = std or (CIFAR10.std if small else IMAGENET_STD)
        if not len(mean) == len(std) == 3 or size < 1 or min(std) <= 0:
            raise ConfigError(
                f"--size {size} --mean {mean} --std {std}: give at least 1 pixel, and three numbers each, "
                "one per channel; standard deviations above 0."
            )
        net = make_backbone(backbone, size, settings)
    _load(net, content, about, str(path))
    return Encoder(net, size, tuple(mean), tuple(std)).eval(), about["config"] if about else {}


def load_backbone(
    path: str | Path,
    backbone: str | None = None,
    *,
    size: int | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    network: Network = "student",
    **settings: Any,
) -> Encoder:
    """Return the encoder of a file of weights, in eval mode: square images (uint8, or floats in [0, 1]) to features.

    Args:
        path: a ``final.ckpt`` of an experiment, or a ``.safetensors`` exported from one; or weights of torchvision,
            timm, solo-learn, CaSSLe, Kaizen, MoCo or DINO, with the other arguments.
        backbone: name of the backbone, e.g. ``resnet50``.
        size: side of the training images in pixels; default: 224.
        mean: their mean per channel; default: CIFAR-10's up to 64 pixels, else ImageNet's.
        std: their standard deviation, likewise.
        network: of a ``final.ckpt``, the student, or the teacher that follows it (CCL's, AEP's and APRE's, or that of
            an objective with a momentum teacher).
        settings: settings of the backbone, e.g. ``stem_padding=2``.

    Raises:
        CheckpointError: missing, damaged, unsafe, of another architecture, or from elsewhere without a ``backbone``.
        ConfigError: a wrong setting, or one for a file that describes itself.
    """
    return read_encoder(path, backbone, size=size, mean=mean, std=std, network=network, **settings)[0]


def start_from(model: SSLMethod, path: str | Path, backbone: str) -> None:
    """Start a model's backbone, and its momentum teacher's, from a file of weights; heads and the rest stay.

    Args:
        model: takes the weights.
        path: any file that :func:`read_encoder` reads.
        backbone: name of the model's backbone.

    Raises:
        CheckpointError: missing, damaged, unsafe, or of another architecture.
    """
    path = Path(path)
    content, about = read(path)
    if about is not None:
        check_name(path, about, backbone)
    _load(model.backbone, content, about, f"--pretrained_model {path}")
    if model.has_momentum_teacher:
        model.momentum_backbone.load_state_dict(model.backbone.state_dict())


def read(path: Path, network: Network = "student") -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Return the weights of the backbone in a file, and what it says about itself.

    That is ``backbone`` (name), ``size``, ``mean``, ``std``, ``task``, and ``config`` (settings by name). Of a file
    from elsewhere: the whole content, and None.

    Raises:
        CheckpointError: missing, damaged, unsafe, with another file's card, or without this network.
    """
    if network != "student" and path.suffix == card.SUFFIX:
        raise CheckpointError(f"--network {network}: {path} holds one exported network; leave the flag out.")
    if path.suffix == card.SUFFIX:
        return card.read_weights(path), card.read(path)
    content = checkpoint.load(path)
    about = content.get("cassle")
    if not isinstance(about, dict):
        if network != "student":
            raise CheckpointError(f"--network {network}: {path} holds weights from elsewhere; leave the flag out.")
        return content, None
    if "state_dict" not in content or "backbone" not in about.get("config", {}):
        raise CheckpointError(
            f"{path}: not a final.ckpt of cassle (it has the entries {sorted(map(str, content))[:6]})."
        )
    state = content["state_dict"]
    prefix = next((known for known in PREFIXES[network] if any(key.startswith(known) for key in state)), None)
    if prefix is None:
        raise CheckpointError(f"--network {network}: {path} holds none; leave the flag out to take the student.")
    weights = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
    return weights, {**about, "backbone": about["config"]["backbone"]}


def _load(net: nn.Module, content: Mapping[str, Any], about: Mapping[str, Any] | None, source: str) -> None:
    load_strictly(net, content if about else backbone_weights(content, net, source), source=source)


def check_name(path: Path, about: Mapping[str, Any], backbone: str | None) -> None:
    """Raise CheckpointError if a file holds another backbone than is believed; None believes nothing."""
    if backbone is not None and backbone != about["backbone"]:
        raise CheckpointError(
            f"{path}: holds a {about['backbone']}, not a {backbone}; give --backbone {about['backbone']}."
        )


def backbone_settings(name: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of a configuration that is the settings of a backbone.

    Raises:
        ConfigError: the backbone is unknown.
    """
    names = Schema([Component("Backbone", BACKBONES[name])]).names
    return {setting: config[setting] for setting in names if setting in config}


def make_backbone(name: str, size: int, settings: Mapping[str, Any]) -> nn.Module:
    """Return a freshly initialised backbone; the global generator stays where it is.

    Raises:
        ConfigError: an unknown backbone, or a wrong setting.
    """
    make = BACKBONES[name]
    values = Schema([Component(f"Backbone {name}", make)]).resolve(settings)
    with torch.random.fork_rng(devices=[]):
        return make(size, **values)


def _built(name: str, size: int, config: Mapping[str, Any], source: Path) -> nn.Module:
    try:
        settings = backbone_settings(name, config)
        if "timm_pretrained" in settings:  # all weights come from the file
            settings["timm_pretrained"] = False
        return make_backbone(name, size, settings)
    except ConfigError as error:
        raise CheckpointError(f"{source}: {error}") from error
