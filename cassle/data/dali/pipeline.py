"""From recipes to a DALI pipeline: read a file, decode it once, cut and resize every view from it.

The pipeline ends where DALI and Pillow agree. Its decoder gives Pillow's pixels; a resized crop differs by 0.2 grey
levels in the mean. Its colour operations do not fit: ``color_twist`` has one order where torchvision draws one, takes
the contrast about grey level 128 and not about the image's mean, and turns the hue by a linear map of RGB. With
jitter of 0.4, 0.4, 0.2 and 0.1 its views are 6 to 8 grey levels off in the mean, and on a CPU they cost as much as
the exact ones. So colours, blur, solarize and normalise are the kernels of the resident engine, on the whole batch.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Literal

from cassle.data.engines import MISSING
from cassle.data.recipe import Recipe
from cassle.errors import ConfigError

if TYPE_CHECKING:
    from nvidia.dali import Pipeline

Device = Literal["cpu", "gpu"]
BATCHES_AHEAD = 2  # in the making while one is trained on
PER_VIEW = 4  # what is fed for a view: anchor and shape of the crop, start and end of what is resized in it


def require() -> ModuleType:
    """Return the module ``nvidia.dali``.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        return importlib.import_module("nvidia.dali")
    except ImportError as error:
        raise ConfigError(MISSING) from error


def build(
    recipes: Sequence[Recipe],
    source: Callable[[], list],
    *,
    batch_size: int,
    num_threads: int,
    device: Device,
    device_id: int | None,
) -> Pipeline:
    """Return a pipeline with one output per recipe, uint8 (batch, 3, size, size), each sample cut as ``source`` says.

    It has no random numbers and no state of its own, so it can begin at any batch.

    Args:
        recipes: one per view; only their sizes matter here.
        source: gives for the next batch the paths (a list of byte arrays), then per view four float32 (batch, 2), rows
            before columns: first pixel and size of the crop; start and end of the crop's part that is resized, which
            mirrors it if the end is before the start.
        batch_size: images of a batch.
        num_threads: threads that decode and resize.
        device: "cpu", or "gpu": decoded there as far as nvJPEG can, cut and resized there.
        device_id: the GPU; None for "cpu".

    Raises:
        ConfigError: DALI is not installed.
    """
    dali = require()
    fn, types = dali.fn, dali.types
    # The dynamic executor never writes again to what it has handed out, so that outputs need no copy.
    pipeline = dali.Pipeline(
        batch_size, num_threads, device_id, prefetch_queue_depth=BATCHES_AHEAD, exec_dynamic=True
    )  # fmt: skip
    with pipeline:
        count = PER_VIEW * len(recipes)
        paths, *boxes = fn.external_source(
            source=source, num_outputs=1 + count, ndim=1, dtype=[types.UINT8] + [types.FLOAT] * count
        )
        images = fn.decoders.image(
            fn.io.file.read(paths),
            device="mixed" if device == "gpu" else "cpu",
            output_type=types.RGB,
            adjust_orientation=False,  # Pillow's convert does not turn an image either
            jpeg_fancy_upsampling=True,  # of a GPU's decoder; libjpeg's and so Pillow's way, and always the CPU's
        )
        views = []
        for view, recipe in enumerate(recipes):
            anchor, shape, start, end = boxes[PER_VIEW * view : PER_VIEW * (view + 1)]
            # Cut first: a resize of a region looks beyond its edges, Pillow's resize of a crop does not.
            crop = fn.slice(images, anchor, shape, axes=[0, 1], normalized_anchor=False, normalized_shape=False)
            crop = fn.resize(
                crop, size=[recipe.size] * 2, roi_start=start, roi_end=end, interp_type=types.INTERP_CUBIC,
                antialias=True,
            )  # fmt: skip
            views.append(fn.transpose(crop, perm=[2, 0, 1]))
        pipeline.set_outputs(*views)
    pipeline.build()
    return pipeline
