"""The view on which each benchmark is evaluated, beside torchvision's Resize and CenterCrop."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_images
from torchvision.transforms import InterpolationMode, v2

from cassle.data import BENCHMARKS, STREAMED
from cassle.data.centre import centre_view, view_in_words
from cassle.data.module import TaskData
from cassle.data.recipe import Recipe
from cassle.data.source import FileSource
from cassle.evaluation.encoder import accuracy_rows
from cassle.evaluation.protocol import Evaluation

#: as published: (side of the view, side to which the shorter side is resized before the centre is cut)
PUBLISHED = {
    "digits": (8, 8), "cifar10": (32, 32), "cifar100": (32, 32), "stl10": (96, 96), "tinyimagenet": (64, 64),
    "imagenet": (224, 256), "imagenet100": (224, 256), "domainnet": (224, 256), "custom": (224, 256),
    "core50": (128, 128), "core50_categories": (128, 128),
}  # fmt: skip


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """Parts of two real photographs, as JPEG files that are at most 1.9 times as large as 256, and one small."""
    folder, files = tmp_path_factory.mktemp("photographs"), []
    for number, values in enumerate(load_sample_images().images):
        photo = Image.fromarray(values)
        for width, height in ((500, 375), (333, 420), (427, 257), (256, 256), (301, 480)):
            files.append(folder / f"{number}_{width}.jpg")
            photo.crop((number, 5, number + 480, 425)).resize((width, height)).save(files[-1], quality=92)
    return files


def torchvisions(image: Image.Image, resized: int, size: int, *, tensor: bool) -> torch.Tensor:
    whole = v2.PILToTensor()(image) if tensor else image
    bicubic = {"interpolation": InterpolationMode.BICUBIC, "antialias": True}
    view = v2.CenterCrop(size)(v2.Resize(resized, **bicubic)(whole))
    return (view if tensor else v2.PILToTensor()(view)).float()


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_evaluation_view_is_torchvisions(name, photographs):
    benchmark, (size, resized) = BENCHMARKS[name], PUBLISHED[name]
    assert benchmark.image_size == size and round(size * benchmark.eval_border) == resized
    stored = photographs
    if resized < 256:  # files of the benchmark's own size, as it is published, so that nothing is decoded coarsely
        stored = [path.with_name(f"{name}_{path.stem}.png") for path in photographs]
        for path, small in zip(photographs, stored, strict=True):
            Image.open(path).resize((size, size)).save(small)
    nothing = torch.zeros(len(stored), dtype=torch.int64)
    source = FileSource(stored, nothing, nothing)
    pixels = source.load(source.side(size), 1).pixels
    views = 255 * centre_view(pixels, size, (0.0,) * 3, (1.0,) * 3, benchmark.eval_border)
    for path, view in zip(stored, views, strict=True):
        with Image.open(path) as file:
            image = file.convert("RGB")
        for tensor in (False, True):
            assert (view - torchvisions(image, resized, size, tensor=tensor)).abs().max() <= 2, (path.name, tensor)


def test_every_benchmark_of_tasks_is_in_the_table():
    assert {*PUBLISHED} == {*BENCHMARKS} - {*STREAMED}


def test_nothing_is_cut_off_small_images_at_another_size():
    pixels = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 3, 32, 32), dtype=np.uint8))
    view = centre_view(pixels, 28, (0.0,) * 3, (1.0,) * 3, BENCHMARKS["cifar10"].eval_border)
    whole = torchvisions(v2.ToPILImage()(pixels[0]), 28, 28, tensor=False)
    assert (255 * view[0] - whole).abs().max() <= 2


def test_probes_see_the_view_of_the_benchmark(monkeypatch):
    images = TaskData(dataset="digits", num_tasks=1).load(8)
    assert images.eval_border == 1
    seen = []

    class Spy(torch.nn.Linear):
        def forward(self, x):
            seen.append(x)
            return super().forward(x.flatten(1))

    recipe = Recipe(size=6, mean=(0.0,) * 3, std=(1.0,) * 3)
    evaluation = Evaluation(disable_linear_eval=True, few_labels=0)
    for border in (1.0, 8 / 6):
        accuracy_rows(Spy(108, 2), replace(images, eval_border=border), recipe, evaluation)
    first, second = seen[0], seen[len(seen) // 2]
    inner = images.train.pixels[: len(second), :, 1:7, 1:7].float() / 255
    assert torch.allclose(second, inner, atol=1e-5) and not torch.allclose(first, inner, atol=0.1)


@pytest.mark.parametrize(
    "small, settings, side, seen",
    [
        (3, {}, 128, "shorter side to 128 (smaller images are magnified), centre 112×112"),
        (7, {}, 64, "stored at 64×64 (shorter side to 64, centre), all of it, resized to 112×112"),
        (3, {"storage_size": 112}, 112, "stored at 112×112 (shorter side to 112, centre), all of it"),
        (3, {"storage_size": 160}, 160,
         "shorter side to 160 (smaller images are magnified), centre 140×140, resized to 112×112"),
    ],
)  # fmt: skip
def test_what_is_said_of_the_view_is_done(small, settings, side, seen, tmp_path):
    """Files of two sizes, white but for a black frame: what is said to be cut off is not seen, all else is."""
    for part in ("train", "val"):
        (tmp_path / part / "a").mkdir(parents=True)
        for number in range(10):
            pixels = np.zeros((size := 64 if number < small else 256, size, 3), dtype=np.uint8)
            edge = size // 32  # inside of the border, which is a sixteenth at each side
            pixels[edge:-edge, edge:-edge] = 255
            Image.fromarray(pixels).save(tmp_path / part / "a" / f"{number}.png")
    data = TaskData(dataset="custom", data_dir=tmp_path, num_tasks=1, split_strategy="data", **settings)
    images = data.load(112, say=lambda line: None)
    assert images.train.pixels.shape[-1] == side
    assert view_in_words(112, images.eval_border, side) == seen
    views = centre_view(images.train.pixels, 112, (0.0,) * 3, (1.0,) * 3, images.eval_border)
    cut = (views[:, :, 0] > 0.5).flatten(1).all(dim=1)  # no frame is seen, of small images or large ones
    assert cut.tolist() == ["centre 1" in seen] * 10


def test_what_is_said_of_arrays():
    assert view_in_words(8, 1, 8) == "stored at 8×8 (shorter side to 8, centre), all of it"
    assert view_in_words(28, 1, 32) == "stored at 32×32 (shorter side to 32, centre), all of it, resized to 28×28"
