"""What a view is made of, as data: the engines read a :class:`Recipe`, they never invent an augmentation."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from cassle.checks import Count, Share, Whole, out_of_range
from cassle.errors import ConfigError

Triple = tuple[float, float, float]

# The fields that are probabilities and the fields that are jitter strengths, with the flag that sets each.
_PROBABILITIES = {
    "jitter_prob": "color_jitter_prob",
    "gray_prob": "gray_scale_prob",
    "blur_prob": "gaussian_prob",
    "solarize_prob": "solarization_prob",
    "flip_prob": "horizontal_flip_prob",
}
_STRENGTHS = ("brightness", "contrast", "saturation")
# The flags that take one value for all views or one per view.
_PER_VIEW = ("min_scale", "max_scale", "size", "hue", *_STRENGTHS, *_PROBABILITIES.values())


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One view: crop, colour jitter, grayscale, blur, solarize, flip, normalise, in this order.

    Args:
        size: side of the square view in pixels.
        scale: smallest and largest crop as fractions of the image's area.
        ratio: smallest and largest width / height of the crop.
        brightness: largest relative change; the factor is drawn from ``[max(0, 1 - b), 1 + b]``.
        contrast: as ``brightness``.
        saturation: as ``brightness``.
        hue: largest shift of the hue circle in turns, 0 to 0.5.
        jitter_prob: chance that the four jitters, in random order, are applied.
        gray_prob: chance of a view without colour.
        blur_prob: chance of a Gaussian blur.
        blur_sigma: smallest and largest sigma of the blur in pixels.
        solarize_prob: chance that the pixels from ``solarize_threshold`` on are inverted.
        solarize_threshold: grey level, 0 to 255 (256 inverts nothing).
        flip_prob: chance of a left-right flip.
        mean: mean per channel of images in [0, 1].
        std: standard deviation per channel of images in [0, 1].
        local: a small crop, which only the student sees; a teacher sees the others.

    Raises:
        ConfigError: one or more values are out of range; every one of them is named.
    """

    size: int
    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    jitter_prob: float = 0.8
    gray_prob: float = 0.2
    blur_prob: float = 0.5
    blur_sigma: tuple[float, float] = (0.1, 2.0)
    solarize_prob: float = 0.0
    solarize_threshold: int = 128
    flip_prob: float = 0.5
    mean: Triple
    std: Triple
    local: bool = False

    def __post_init__(self) -> None:
        problems = list(self._problems())
        if problems:
            raise ConfigError(problems)

    def _problems(self) -> Iterator[str]:
        """Yield one sentence per value that is out of range; a NaN fails every comparison and so is caught too."""
        if self.size < 1:
            yield f"--size {self.size}: a view needs at least one pixel; give a positive integer."
        low, high = self.scale
        if not 0 < low <= high <= 1:
            yield f"--min_scale {low} --max_scale {high}: give 0 < min_scale <= max_scale <= 1."
        low, high = self.ratio
        if not 0 < low <= high < math.inf:
            yield f"ratio {low}, {high}: give 0 < smallest <= largest width / height."
        low, high = self.blur_sigma
        if not 0 < low <= high < math.inf:
            yield f"blur_sigma {low}, {high}: give 0 < smallest <= largest sigma, in pixels."
        for name in _STRENGTHS:
            if not 0 <= getattr(self, name) < math.inf:
                yield f"--{name} {getattr(self, name)}: give a number that is not negative, e.g. 0.4."
        if not 0 <= self.hue <= 0.5:
            yield f"--hue {self.hue}: give a part of the hue circle between 0 and 0.5."
        for name, flag in _PROBABILITIES.items():
            if not 0 <= getattr(self, name) <= 1:
                yield f"--{flag} {getattr(self, name)}: give a probability between 0 and 1."
        if not 0 <= self.solarize_threshold <= 256:
            yield f"solarize_threshold {self.solarize_threshold}: give a grey level between 0 and 256."
        if len(self.mean) != 3 or not all(math.isfinite(value) for value in self.mean):
            yield f"--mean {self.mean}: give three finite numbers, one per channel."
        if len(self.std) != 3 or not all(0 < value < math.inf for value in self.std):
            yield f"--std {self.std}: give three positive numbers, one per channel."


class Augmentation:
    """The views of one image: every value is one number for all views, or a list with one number per view.

    With multi-crop (SwAV, section 3.2) small crops follow the ``num_crops`` large ones; they have the last large view's
    values except for size and scale.

    Args:
        num_crops: full-size views per image.
        num_small_crops: further, small views per image (multi-crop); simclr, supcon, swav, dino, lejepa take them.
        small_crop_size: side of a small view in pixels; default: 3/7 of size, as 96 of 224.
        min_scale_small: smallest small crop as a fraction of the image's area.
        max_scale_small: largest small crop as a fraction of the image's area.
        brightness: largest relative change of brightness.
        contrast: largest relative change of contrast.
        saturation: largest relative change of saturation.
        hue: largest shift of the hue in turns of the colour circle, 0 to 0.5.
        gaussian_prob: chance of a Gaussian blur, sigma 0.1 to 2 pixels.
        solarization_prob: chance of inverting the pixels from 128 on.
        min_scale: smallest crop as a fraction of the image's area.
        max_scale: largest crop as a fraction of the image's area.
        size: side of a view in pixels (default: the benchmark's image size).
        color_jitter_prob: chance of colour jitter.
        gray_scale_prob: chance of a view without colour.
        horizontal_flip_prob: chance of a left-right flip.

    Raises:
        ConfigError: a list has neither 1 nor num_crops values, or a value is out of range.
    """

    def __init__(
        self,
        *,
        num_crops: Count = 2,
        num_small_crops: Whole = 0,
        small_crop_size: Count | None = None,
        min_scale_small: Share = 0.05,
        max_scale_small: Share = 0.14,
        brightness: float | list[float] = 0.4,
        contrast: float | list[float] = 0.4,
        saturation: float | list[float] = 0.2,
        hue: float | list[float] = 0.1,
        gaussian_prob: float | list[float] = 0.5,
        solarization_prob: float | list[float] = 0.0,
        min_scale: float | list[float] = 0.08,
        max_scale: float | list[float] = 1.0,
        size: int | list[int] | None = None,
        color_jitter_prob: float | list[float] = 0.8,
        gray_scale_prob: float | list[float] = 0.2,
        horizontal_flip_prob: float | list[float] = 0.5,
    ) -> None:
        given = {name: value for name, value in locals().items() if name in _PER_VIEW}
        problems = [*out_of_range(Augmentation, locals()).values()]
        problems += [
            f"--{flag} {' '.join(map(str, value)) or '(empty)'}: {len(value)} values for {num_crops} view"
            f"{f's; give 1 value or {num_crops}' if num_crops > 1 else '; give 1 value'} (--num_crops {num_crops})."
            for flag, value in given.items()
            if isinstance(value, (list, tuple)) and len(value) not in (1, num_crops)
        ]
        if problems:
            raise ConfigError(problems)
        self.num_crops, self.num_small_crops, self.small_crop_size = num_crops, num_small_crops, small_crop_size
        self.small_scale = (min_scale_small, max_scale_small)
        self._per_view = {flag: _spread(value, num_crops) for flag, value in given.items()}
        self.recipes(size=1, mean=(0.0,) * 3, std=(1.0,) * 3)  # out-of-range values are reported now, not mid-run

    def recipes(self, *, size: int, mean: Sequence[float], std: Sequence[float]) -> tuple[Recipe, ...]:
        """Return one recipe per view, the large ones first.

        Args:
            size: the benchmark's image size in pixels, for the views whose ``size`` was not given.
            mean: three means of images in [0, 1].
            std: three standard deviations of images in [0, 1].

        Raises:
            ConfigError: a value is out of range in some view; the problems of all views are listed.
        """
        recipes, problems = [], []
        for values in zip(*self._per_view.values(), strict=True):
            view = dict(zip(self._per_view, values, strict=True))
            try:
                recipes.append(_recipe(view, size, tuple(mean), tuple(std)))
            except ConfigError as error:
                problems += error.problems
        if self.num_small_crops and not problems:
            try:
                recipes += [self._small(recipes[-1])] * self.num_small_crops
            except ConfigError as error:
                problems += [problem.replace("_scale ", "_scale_small ") for problem in error.problems]
        if problems:
            raise ConfigError(dict.fromkeys(problems))  # each once, in order
        return tuple(recipes)

    def _small(self, large: Recipe) -> Recipe:
        size = self.small_crop_size or max(1, round(large.size * 3 / 7))
        if 1 < large.size < size:
            raise ConfigError(f"--small_crop_size {size}: above the {large.size} pixels of a large view; give less.")
        return replace(large, size=size, scale=self.small_scale, local=True)


def _spread(value: object, views: int) -> list:
    """Return one value per view from one number, a list of one, or a list of ``views`` values."""
    values = list(value) if isinstance(value, (list, tuple)) else [value]
    return values * views if len(values) == 1 else values


def _recipe(view: dict, size: int, mean: Triple, std: Triple) -> Recipe:
    """Translate one view's flags, in upstream's words, into a recipe."""
    return Recipe(
        size=size if view["size"] is None else view["size"],
        scale=(view["min_scale"], view["max_scale"]),
        **{name: view[name] for name in (*_STRENGTHS, "hue")},
        **{name: view[flag] for name, flag in _PROBABILITIES.items()},
        mean=mean,
        std=std,
    )
