"""The worker engine: its crops, their independence of the workers, resume, damaged files; pixels that lie in files."""

import sys

import pytest
import torch
from PIL import Image
from torchvision.transforms import functional as TF

from benchmarks.pillow_oracle import photographs, pillow_chain
from cassle.data.parameters import draw
from cassle.data.pixels import FilePixels, content_of
from cassle.data.recipe import Recipe
from cassle.data.resident import ResidentLoader
from cassle.data.source import FileSource
from cassle.data.workers import WorkerLoader
from cassle.errors import CassleError, DataError
from cassle.randomness import generator

STRONG = {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1, "solarize_prob": 0.5}
RECIPES = [
    Recipe(size=24, mean=(0.0,) * 3, std=(1.0,) * 3, **STRONG),
    Recipe(size=12, mean=(0.0,) * 3, std=(1.0,) * 3, local=True),
]
NUMBER = 20
MADE: list[WorkerLoader] = []
TARGETS, MEMBERS = torch.arange(NUMBER) % 4, torch.arange(1, NUMBER)


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    folder, found = tmp_path_factory.mktemp("images"), []
    for number, pixels in enumerate(photographs(NUMBER, 64)):
        image = Image.fromarray(pixels.permute(1, 2, 0).numpy()).resize((40 + number, 60 - number))
        found.append(folder / f"{number}.png")
        image.save(found[-1])
    return found


def loader(paths, num_workers=0, **settings):
    settings = {"batch_size": 6, "seed": 3, "task": 1, **settings}
    pixels = FilePixels(paths, 16, 2)
    MADE.append(WorkerLoader(pixels, TARGETS, MEMBERS, RECIPES, num_workers=num_workers, **settings))
    return MADE[-1]


@pytest.fixture(autouse=True)
def closed():
    yield
    while MADE:
        MADE.pop().close()


def same(one, other):
    pairs = zip(one, other, strict=True)
    return all(torch.equal(a.index, b.index) and all(map(torch.equal, a.views, b.views)) for a, b in pairs)


def test_a_view_is_what_pillow_makes_of_the_whole_image(paths):
    (batch, *_), errors = loader(paths), []
    for row, position in enumerate(batch.index.tolist()):
        for view, recipe in enumerate(RECIPES):
            image = Image.open(paths[position])
            drawn = draw(recipe, 1, image.height, image.width, generator(3, "augment", 1, 0, position, view))
            theirs = TF.pil_to_tensor(pillow_chain(image, drawn, 0, recipe)).float()
            errors.append((batch.views[view][row] * 255 - theirs).abs().flatten())
    errors = torch.cat(errors)  # each operation rounds at another place than Pillow's
    assert errors.mean() < 0.5 and errors.max() <= 4


def test_the_batches_are_the_resident_engines(paths):
    resident = ResidentLoader(
        torch.zeros(NUMBER, 3, 8, 8, dtype=torch.uint8), TARGETS, MEMBERS, [], batch_size=6, seed=3, task=1
    )
    ours = loader(paths)
    for _ in range(2):
        assert [b.index.tolist() for b in ours] == [index.tolist() for index in resident.rest_of_epoch()]
        resident.step += len(resident)
    batch = next(iter(ours))
    assert torch.equal(batch.targets, TARGETS[batch.index]) and batch.num_large == 1


def test_views_do_not_depend_on_the_number_of_workers(paths):
    here, there = loader(paths), loader(paths, num_workers=2)
    for _ in range(2):
        assert same(list(here), list(there))


@pytest.mark.parametrize("num_workers", [0, 1])
@pytest.mark.parametrize("step", [1, 3, 4])
def test_resume_at_any_batch(step, num_workers, paths):
    whole = loader(paths)
    batches = [*whole, *whole]
    later = loader(paths, num_workers=num_workers)
    later.load_state_dict({"step": step})
    assert same([*later, *(later if step < 3 else ())], batches[step:])


def test_two_processes_share_a_batch(paths):
    parts = []
    for rank in (0, 1):
        made = loader(paths, batch_size=3, world_size=2)
        made.deal(rank, 2)
        parts.append(list(made))
    for one, other, both in zip(*parts, loader(paths), strict=True):
        assert torch.equal(torch.cat([one.index, other.index]), both.index)
        assert torch.equal(torch.cat([one.views[0], other.views[0]]), both.views[0])


def test_replayed_views_are_drawn_by_their_step(paths):
    made, index = loader(paths), torch.tensor([4, 4, 7])
    iterator = iter(made)
    next(iterator)
    first = made.views_of(index, "replay")
    assert [view.shape[-1] for view in first] == [24, 12] and not torch.equal(first[0][0], first[0][1])
    assert torch.equal(first[0], made.views_of(index, "replay")[0])
    assert not torch.equal(first[0], made.views_of(index, "other")[0])
    next(iterator)
    assert not torch.equal(first[0], made.views_of(index, "replay")[0])
    assert torch.equal(made.centre_of(index), made.maker.centre(made.pixels[index]))


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_damaged_file_is_named(num_workers, paths, tmp_path):
    bad = tmp_path / "torn.png"
    bad.write_bytes(paths[5].read_bytes()[:200])
    with pytest.raises(DataError, match=f"{bad}: .*\n?.*python -m cassle verify"):
        list(loader([*paths[:5], bad, *paths[6:]], num_workers=num_workers))


def test_pixels_in_files_are_those_in_memory(paths):
    loaded = FileSource(paths, TARGETS, TARGETS).load(16, 2).pixels
    pixels = FilePixels(paths, 16, 2)
    assert pixels.shape == loaded.shape and len(pixels) == NUMBER and pixels.dim() == 4
    assert torch.equal(torch.cat([pixels[start : start + 7] for start in range(0, NUMBER, 7)]), loaded)
    assert torch.equal(pixels[3:5], loaded[3:5]) and torch.equal(pixels[torch.tensor([9, 2])], loaded[[9, 2]])
    some = TARGETS == 2
    assert torch.equal(pixels[some][0:99], loaded[some])
    assert pixels.to("cpu").device.type == "cpu"
    assert b"".join(content_of(pixels)) == b"".join(content_of(FilePixels(paths, 99, 1)))


def test_a_worker_that_was_killed_is_one_clear_error(paths):
    made = loader(paths, num_workers=1)
    batches = iter(made)
    next(batches)
    (worker,) = made._crops._iterator._workers
    worker.kill()
    worker.join()
    with pytest.raises(CassleError, match=r"--engine workers: a process that decodes images has ended .*--num_workers"):
        for _ in range(9):
            next(batches)


def test_workers_do_not_read_the_main_script(paths, tmp_path, monkeypatch):
    script = tmp_path / "main.py"
    script.write_text("raise SystemExit('a run would begin here')\n")
    main = sys.modules["__main__"]
    monkeypatch.setattr(main, "__file__", str(script), raising=False)
    monkeypatch.setattr(main, "__spec__", None)
    made = loader(paths, num_workers=1)
    assert same(list(made), list(loader(paths)))
    assert main.__file__ == str(script)
