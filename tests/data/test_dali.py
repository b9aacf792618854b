"""The DALI engine: the resident engine's batches, decoded and cut by DALI, with Pillow's pixels."""

import dataclasses
import gc
import importlib
import importlib.util
import sys
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats

from cassle.data import parameters
from cassle.data.augment import finish, make_view
from cassle.data.dali.loader import DaliLoader
from cassle.data.dali.pipeline import build
from cassle.data.pixels import FilePixels
from cassle.data.recipe import Recipe
from cassle.data.resident import ResidentLoader
from cassle.errors import ConfigError, DataError
from cassle.randomness import generator

needs_dali = pytest.mark.skipif(
    importlib.util.find_spec("nvidia") is None or importlib.util.find_spec("nvidia.dali") is None,
    reason="NVIDIA DALI is not installed: pip install 'cassle[dali]'",
)
# The oracle, one Pillow call per operation, is the benchmark's: there is one of it.
_SPEC = importlib.util.spec_from_file_location(
    "pillow_oracle", Path(__file__).parents[2] / "benchmarks" / "pillow_oracle.py"
)
oracle = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(oracle)

STATS = {"mean": (0.4914, 0.4822, 0.4465), "std": (0.247, 0.243, 0.261)}
STRONG = Recipe(
    size=32, brightness=0.8, contrast=0.8, saturation=0.8, hue=0.2, blur_prob=0.5, solarize_prob=0.3, **STATS
)
NOTHING = Recipe(size=32, scale=(1, 1), ratio=(1, 1), jitter_prob=0, gray_prob=0, blur_prob=0, flip_prob=0, **STATS)
# One operation at a time, on everything or on half of the images: the oracle's name, the recipe.
ALONE = {
    "crop": {"scale": (0.08, 1.0), "ratio": (3 / 4, 4 / 3)},
    "flip": {"flip_prob": 0.5},
    "brightness": {"jitter_prob": 1.0, "brightness": 0.8},
    "contrast": {"jitter_prob": 1.0, "contrast": 0.8},
    "saturation": {"jitter_prob": 1.0, "saturation": 0.8},
    "hue": {"jitter_prob": 1.0, "hue": 0.2},
    "grayscale": {"gray_prob": 0.5},
    "blur": {"blur_prob": 0.5},
    "solarize": {"solarize_prob": 0.5},
}
COUNT = 24


@pytest.fixture(scope="session")
def photos(tmp_path_factory) -> list[Path]:
    """Pieces of two photographs as JPEG files of one size."""
    folder = tmp_path_factory.mktemp("photos")
    return [save(image, folder / f"{i:02}.jpg") for i, image in enumerate(oracle.photographs(COUNT, 96))]


@pytest.fixture(scope="session")
def mixed(tmp_path_factory) -> list[Path]:
    """Pieces of photographs of many sizes and kinds of file."""
    folder, paths = tmp_path_factory.mktemp("mixed"), []
    kinds = [("jpg", "RGB"), ("jpg", "L"), ("jpg", "CMYK"), ("png", "RGB"), ("png", "P"), ("png", "L"), ("webp", "RGB")]
    for i, image in enumerate(oracle.photographs(COUNT, 120)):
        suffix, mode = kinds[i % len(kinds)]
        paths.append(save(image[:, : 30 + 3 * i, : 119 - 2 * i], folder / f"{i:02}.{suffix}", mode))
    return paths


def save(image: torch.Tensor, path: Path, mode: str = "RGB", **options) -> Path:
    Image.fromarray(image.permute(1, 2, 0).numpy()).convert(mode).save(path, quality=90, **options)
    return path


def opened(path: Path) -> Image.Image:
    with Image.open(path) as image:
        return image.convert("RGB")


def loader(paths, recipes=(STRONG,), members=None, **changes) -> DaliLoader:
    members = torch.arange(len(paths)) if members is None else members
    settings = {"batch_size": len(members), "seed": 5, "task": 1, "num_threads": 1, **changes}
    pixels = FilePixels(paths, 32, 1)
    return DaliLoader(paths, torch.arange(len(paths)) * 10, members, recipes, pixels=pixels, **settings)


def same(a, b) -> bool:
    return all(torch.equal(x, y) for x, y in zip([a[0], *a[1], a[2]], [b[0], *b[1], b[2]], strict=True))


def drawn(paths, batch, recipe, view=0, rank=0):
    """What the resident engine draws for the first batch of the loader above, for images of any size."""
    sizes = torch.tensor([opened(paths[i]).size[::-1] for i in batch.index])
    return parameters.draw(recipe, len(sizes), *sizes.unbind(1), generator(5, "augment", 1, 0, view, rank))


def errors(paths, batch, recipe, view=0, rank=0) -> torch.Tensor:
    """Return |DALI - Pillow| of the first batch of the loader above in grey levels."""
    mean, std = (torch.tensor(values)[:, None, None] for values in (recipe.mean, recipe.std))
    params, expected = drawn(paths, batch, recipe, view, rank), []
    for i, position in enumerate(batch.index.tolist()):
        expected.append(np.asarray(oracle.pillow_chain(opened(paths[position]), params, i, recipe)))
    expected = torch.from_numpy(np.stack(expected)).permute(0, 3, 1, 2)
    return ((batch.views[view] * std + mean) * 255 - expected).abs()


@needs_dali
class TestPixels:
    @pytest.mark.parametrize("step", ALONE)
    @pytest.mark.parametrize("size", [32, 80])
    def test_each_operation_equals_pillow(self, photos, step, size):
        recipe = dataclasses.replace(NOTHING, size=size, **ALONE[step])
        batch = next(iter(loader(photos, [recipe])))
        assert errors(photos, batch, recipe).mean() <= 0.5  # the resize by DALI, in all of them

    @pytest.mark.parametrize("size", [32, 96, 150])
    def test_the_whole_chain_stays_close_to_pillow(self, photos, size):
        recipe = dataclasses.replace(STRONG, size=size)
        difference = errors(photos, next(iter(loader(photos, [recipe]))), recipe)
        assert difference.mean() <= 0.6
        assert difference.flatten().kthvalue(int(0.99 * difference.numel())).values <= 4

    def test_a_crop_sees_nothing_beyond_its_edges(self, tmp_path):
        image = torch.full((3, 64, 48), 255, dtype=torch.uint8)
        image[:, 10:30, 20:40] = 0
        image[:, 10:30, 36:40] = 200
        path = tmp_path / "image.png"
        save(image, path)
        name = np.frombuffer(str(path).encode(), np.uint8)
        plain, flipped = (
            [np.array([box], np.float32) for box in ((10, 20), (20, 20), start, end)]
            for start, end in (((0, 0), (20, 20)), ((0, 20), (20, 0)))
        )
        recipes = [dataclasses.replace(NOTHING, size=size) for size in (40, 10)]
        made = build(
            recipes, lambda: [[name], *plain, *flipped], batch_size=1, num_threads=1, device="cpu", device_id=None
        )
        large, small = (torch.from_dlpack(out.as_tensor())[0] for out in made.run())
        assert large.shape == (3, 40, 40) and large[:, :, :29].max() == 0 and large[:, :, 35:].min() >= 200
        assert small.shape == (3, 10, 10) and small[:, :, 5:].max() == 0 and small[:, :, :1].min() >= 190

    def test_small_files(self, tmp_path):
        paths = [save(image, tmp_path / f"{i}.jpg") for i, image in enumerate(oracle.photographs(16, 32))]
        assert errors(paths, next(iter(loader(paths))), STRONG).mean() <= 0.6

    def test_sizes_and_kinds_of_file_in_one_batch(self, mixed):
        assert errors(mixed, next(iter(loader(mixed))), STRONG).mean() <= 0.6

    def test_the_decoder_gives_pillows_pixels(self, tmp_path):
        """An identical crop leaves the decoder alone: chroma, CMYK, alpha and orientation."""
        image = oracle.photographs(1, 32)[0]
        turned = Image.Exif()
        turned[0x112] = 6  # "rotate by 90 degrees to see it upright"
        paths = [
            save(image, tmp_path / "420.jpg"),
            save(image, tmp_path / "444.jpg", subsampling=0),
            save(image, tmp_path / "progressive.jpg", progressive=True),
            save(image, tmp_path / "turned.jpg", exif=turned),
            save(image, tmp_path / "cmyk.jpg", "CMYK"),
            save(image, tmp_path / "gray.jpg", "L"),
            save(image, tmp_path / "alpha.png", "RGBA"),
            save(image, tmp_path / "palette.png", "P"),
            save(image, tmp_path / "gray_alpha.png", "LA"),
            save(image, tmp_path / "bits.png", "1"),
            save(image, tmp_path / "image.webp"),
            save(image, tmp_path / "image.bmp"),
            save(image, tmp_path / "image.tif"),
            save(image, tmp_path / "image.ppm"),
        ]
        paths.append(tmp_path / "png_inside.jpg")
        paths[-1].write_bytes(paths[6].read_bytes())
        assert errors(paths, next(iter(loader(paths, [NOTHING]))), NOTHING).max() <= 0.01

    def test_views_have_their_own_recipes(self, photos):
        """Asymmetric views, and the small crops of multi-crop."""
        small = dataclasses.replace(STRONG, size=20, scale=(0.05, 0.14), local=True)
        recipes = [STRONG, dataclasses.replace(STRONG, blur_prob=0.0, jitter_prob=0.1), small, small]
        batch = next(iter(loader(photos, recipes)))
        assert [tuple(view.shape[1:]) for view in batch.views] == [(3, 32, 32)] * 2 + [(3, 20, 20)] * 2
        assert batch.num_large == 2 and len(batch.large) == 2
        assert all(view.dtype == torch.float32 and view.is_contiguous() for view in batch.views)
        for view, recipe in enumerate(recipes):
            assert errors(photos, batch, recipe, view).mean() <= 0.6
        assert not torch.equal(batch.views[2], batch.views[3])

    def test_the_resident_engine_draws_the_same(self, photos):
        """Files of one size, stored as they are: two engines, one view."""
        pixels = torch.stack([torch.from_numpy(np.array(opened(path))) for path in photos]).permute(0, 3, 1, 2)
        everyone = torch.arange(COUNT)
        resident = ResidentLoader(pixels, everyone, everyone, [STRONG], batch_size=COUNT, seed=5, task=1)
        ours, theirs = next(iter(loader(photos))), next(iter(resident))
        assert torch.equal(ours.index, theirs.index)
        assert ((ours.views[0] - theirs.views[0]).abs() * 0.25 * 255).mean() <= 1


class TestBoxes:
    def test_images_of_one_size_are_drawn_as_a_batch(self):
        for height, width in ((32, 32), (500, 333), (10, 400), (400, 10), (1, 1), (3, 2)):
            sizes = torch.tensor([[height, width]]).expand(300, 2)
            ours = parameters.draw(STRONG, 300, *sizes.unbind(1), generator(1, "test", 2, 3))
            theirs = parameters.draw(STRONG, 300, height, width, generator(1, "test", 2, 3))
            for name, values in vars(theirs).items():
                assert torch.equal(getattr(ours, name), values), (name, height, width)

    def test_every_image_has_boxes_of_its_own_size(self):
        sizes = torch.tensor([[20, 30], [300, 200], [7, 90], [64, 64]]).repeat(500, 1)
        params = parameters.draw(STRONG, len(sizes), *sizes.unbind(1), generator(1, "test"))
        assert ((params.top >= 0) & (params.top + params.height <= sizes[:, 0])).all()
        assert ((params.left >= 0) & (params.left + params.width <= sizes[:, 1])).all()
        assert (params.height > 0).all() and (params.width > 0).all()
        for first, (height, width) in enumerate(sizes[:4].tolist()):
            alone = parameters.draw(STRONG, 500, height, width, generator(2, "test"))
            for ours, theirs in ((params.height, alone.height), (params.left, alone.left)):
                assert stats.ks_2samp(ours[first::4].numpy(), theirs.numpy()).pvalue > 1e-3


def test_colours_of_a_cut_view_are_those_of_a_view_cut_from_itself():
    crops = oracle.photographs(30, 48)
    recipe = dataclasses.replace(STRONG, size=48)
    params = parameters.draw(recipe, 30, 48, 48, generator(3, "test"))
    whole = {name: torch.full((30,), value) for name, value in (("top", 0), ("left", 0), ("height", 48), ("width", 48))}
    params = dataclasses.replace(params, flip=torch.zeros(30, dtype=torch.bool), **whole)
    torch.testing.assert_close(finish(crops, params, recipe), make_view(crops, params, recipe), rtol=0, atol=1e-5)


@needs_dali
class TestOrder:
    MEMBERS = torch.arange(1, COUNT, 2)  # 12 of the 24

    def make(self, photos, **changes) -> DaliLoader:
        recipes = [dataclasses.replace(STRONG, size=16), dataclasses.replace(NOTHING, size=8, scale=(0.1, 1.0))]
        return loader(photos, recipes, self.MEMBERS, **{"batch_size": 5, **changes})

    def test_the_batches_are_the_resident_engines(self, photos):
        pixels = torch.zeros(COUNT, 3, 16, 16, dtype=torch.uint8)
        for part in ({}, {"rank": 1, "world_size": 2, "batch_size": 3}):
            settings = {"batch_size": 5, "seed": 5, "task": 1, **part}
            resident = ResidentLoader(pixels, torch.arange(COUNT) * 10, self.MEMBERS, [NOTHING], **settings)
            ours = self.make(photos, **part)
            assert len(ours) == len(resident) == 2  # the incomplete last batch is dropped
            for _ in range(3):
                for a, b in zip(ours, resident, strict=True):
                    assert torch.equal(a.index, b.index) and torch.equal(a.targets, b.targets)

    @pytest.mark.parametrize("position", range(7))
    def test_a_resumed_loader_yields_the_rest(self, photos, position):
        whole = self.make(photos)
        batches = [batch for _ in range(3) for batch in whole]
        stopped = self.make(photos, num_threads=2)
        taken = 0
        while taken < position:
            for _ in stopped:
                taken += 1
                if taken == position:
                    break
        assert stopped.state_dict() == {"step": position}  # and not what was made ahead
        resumed = self.make(photos)
        resumed.load_state_dict(stopped.state_dict())
        rest = []
        while len(rest) < 6 - position:
            rest += list(resumed)
        assert all(same(a, b) for a, b in zip(rest, batches[position:], strict=True))

    def test_an_abandoned_epoch_goes_on_where_it_was_left(self, photos):
        batches = list(self.make(photos))
        it = self.make(photos)
        first = next(iter(it))
        pipeline = it._pipeline
        assert same(first, batches[0]) and same(next(iter(it)), batches[1])
        assert it._pipeline is pipeline  # nothing was made twice
        it.load_state_dict({"step": 0})
        assert same(next(iter(it)), batches[0])
        assert it._pipeline is not pipeline

    def test_a_batch_outlives_its_pipeline(self, photos):
        """Its memory was DALI's, and is not written to again."""
        it = self.make(photos)
        batch = next(iter(it))
        before = [view.clone() for view in batch.views]
        list(it), list(it)
        gone = weakref.ref(it._pipeline)
        del it
        gc.collect()
        assert gone() is None
        assert all(torch.equal(a, b) for a, b in zip(batch.views, before, strict=True))

    def test_dealing_takes_a_part(self, photos):
        _, second = self.make(photos, batch_size=6)
        it = self.make(photos, batch_size=3)
        next(iter(it))  # and more was made ahead, for one process
        it.deal(rank=1, world_size=2)
        part = next(iter(it))
        assert len(it) == 2 and torch.equal(part.index, second.index[3:])

    def test_processes_draw_their_own(self, photos):
        recipe = dataclasses.replace(STRONG, size=16)
        for rank in range(2):
            part = next(iter(self.make(photos, rank=rank, world_size=2)))
            assert errors(photos, part, recipe, rank=rank).mean() <= 0.6

    def test_seed_task_and_step_draw_anew(self, photos):
        firsts = [next(iter(self.make(photos, batch_size=6, **c))) for c in ({}, {"seed": 6}, {"task": 2})]
        other = self.make(photos, batch_size=6)
        other.load_state_dict({"step": 1})
        firsts.append(next(iter(other)))
        views = [batch.views[1] for batch in firsts]
        assert all(not torch.equal(views[i], views[j]) for i in range(4) for j in range(i))

    def test_images_of_a_memory(self, photos):
        it = self.make(photos)
        batch = next(iter(it))
        again = it.views_of(torch.tensor([0, 3]), "replay")
        assert [view.shape for view in again] == [(2, 3, 16, 16), (2, 3, 8, 8)]
        assert it.centre_of(batch.index).shape == (5, 3, 16, 16)
        assert list(it.ahead()) == []
        stored = torch.zeros(2, 3, 32, 32, dtype=torch.uint8)
        assert not torch.equal(it.views_of(torch.tensor([0, 3]), "replay", stored)[0], again[0])


@needs_dali
class TestDamage:
    def broken(self, photos, tmp_path, name: str, content: bytes) -> list[Path]:
        (tmp_path / name).write_bytes(content)
        return [*photos[:3], tmp_path / name]

    @pytest.mark.parametrize("content", ["half", "empty", "text"])
    def test_the_file_is_named(self, photos, tmp_path, content, capfd):
        data = photos[0].read_bytes()
        content = {"half": data[: len(data) // 2], "empty": b"", "text": b"not an image"}[content]
        it = loader(self.broken(photos, tmp_path, "bad.jpg", content))
        for _ in range(2):  # the same answer when it is asked again
            with pytest.raises(
                DataError, match=r"1 images do not decode:\n  \S+/bad.jpg: \w(?s:.)*python -m cassle ver"
            ):
                next(iter(it))
        assert it.state_dict() == {"step": 0}
        capfd.readouterr()  # DALI writes a line of its own

    def test_a_missing_file(self, photos, tmp_path):
        with pytest.raises(DataError, match=r"gone.jpg: .*No such file"):
            next(iter(loader([*photos[:3], tmp_path / "gone.jpg"])))

    def test_a_file_that_goes_after_its_header_was_read(self, photos, tmp_path):
        paths = self.broken(photos, tmp_path, "soon.jpg", photos[0].read_bytes())
        it = loader(paths)
        it.sizes[torch.arange(4)]
        paths[-1].unlink()
        with pytest.raises(DataError, match=r"soon.jpg: .*No such file"):
            next(iter(it))

    def test_a_kind_that_dali_does_not_know(self, photos, tmp_path):
        opened(photos[0]).save(tmp_path / "image.gif")
        with pytest.raises(
            DataError, match=r"whole, but DALI does not read .*\n  \S+/image.gif: GIF, P\n.*--engine wor"
        ):
            next(iter(loader([*photos[:3], tmp_path / "image.gif"])))

    def test_batches_before_it_are_trained_on(self, photos, tmp_path, capfd):
        data = photos[0].read_bytes()
        paths = self.broken(photos, tmp_path, "bad.jpg", data[: len(data) // 2])
        it, seen = loader(paths, batch_size=1), []
        with pytest.raises(DataError, match=r"bad\.jpg"):
            for batch in it:
                seen += batch.index.tolist()
        order = torch.randperm(4, generator=generator(5, "order", 1, 0)).tolist()
        assert seen == order[: order.index(3)] and it.state_dict() == {"step": len(seen)}
        capfd.readouterr()


class TestWithout:
    def test_dali_not_installed(self, photos, monkeypatch):
        monkeypatch.setitem(sys.modules, "nvidia.dali", None)
        with pytest.raises(ConfigError, match=r"--dali: needs NVIDIA DALI, .* pip install 'cassle\[dali\]'"):
            loader(photos)

    def test_importing_the_engine_does_not_import_dali(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "nvidia.dali", None)  # an import of it fails
        for name in [name for name in sys.modules if name.startswith("cassle.data.dali")]:
            monkeypatch.delitem(sys.modules, name)
        assert importlib.import_module("cassle.data.dali.loader").DaliLoader is not DaliLoader

    @needs_dali
    def test_wrong_settings(self, photos):
        with pytest.raises(ConfigError, match="--dali_device gpu: the training runs on the CPU; use --dali_device cpu"):
            loader(photos, device="gpu")
        with pytest.raises(ConfigError, match="--dali_device tpu: give cpu or gpu"):
            loader(photos, device="tpu")
        with pytest.raises(ConfigError, match=r"--batch_size 25: task 1 has only 24 images"):
            loader(photos, batch_size=25)


@needs_dali
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_agrees_with_pillow(photos):
    settings = {"pixels": FilePixels(photos, 32, 1, "cuda"), "batch_size": COUNT, "seed": 5, "task": 1}
    targets = torch.arange(COUNT, device="cuda")
    for device in ("cpu", "gpu"):
        it = DaliLoader(photos, targets, torch.arange(COUNT), [STRONG], device=device, **settings)
        batch = next(iter(it))
        assert batch.views[0].device == batch.index.device == targets.device
        batch = batch._replace(index=batch.index.cpu(), views=[view.cpu() for view in batch.views])
        assert errors(photos, batch, STRONG).mean() <= 4
