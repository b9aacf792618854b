"""What replays of image files is cut from all of them, as the batch is; each process draws its own."""

import importlib.util

import pytest
import torch
from PIL import Image

from cassle.data.dali.loader import DaliLoader
from cassle.data.pixels import FilePixels
from cassle.data.recipe import Recipe
from cassle.data.workers import WorkerLoader
from cassle.errors import DataError

NUMBER = 24
NO_COLOURS = {"jitter_prob": 0, "gray_prob": 0, "blur_prob": 0, "mean": (0.0,) * 3, "std": (1.0,) * 3}
RECIPES = [Recipe(size=8, scale=(0.08, 1), **NO_COLOURS), Recipe(size=4, scale=(0.08, 1), local=True, **NO_COLOURS)]


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    """Images four times as wide as high, in thirds of red, green and blue: their centre square is green."""
    folder = tmp_path_factory.mktemp("thirds")
    image = torch.eye(3).repeat_interleave(64, dim=1).mul(255).byte()  # (3, 192)
    whole = Image.fromarray(image.T.expand(48, 192, 3).contiguous().numpy())
    found = [folder / f"{number}.png" for number in range(NUMBER)]
    for path in found:
        whole.save(path)
    return found


def by_workers(paths, **settings):
    return WorkerLoader(*parts(paths), num_workers=0, **settings)


def by_dali(paths, **settings):
    pixels, *others = parts(paths)
    return DaliLoader(paths, *others, pixels=pixels, num_threads=2, **settings)


def parts(paths):
    return FilePixels(paths, 8, 1), torch.arange(NUMBER), torch.arange(NUMBER), RECIPES


@pytest.fixture(params=["workers", "dali"])
def loader(request, paths):
    """Return what makes a loader of either kind."""
    if request.param == "workers":
        make = by_workers
    elif importlib.util.find_spec("nvidia") and importlib.util.find_spec("nvidia.dali"):
        make = by_dali
    else:
        pytest.skip("NVIDIA DALI is not installed: pip install 'cassle[dali]'")
    return lambda paths=paths, **changed: make(paths, **{"batch_size": 12, "seed": 1, "task": 0, **changed})


def shares(views):
    """Return how much of a view is red, green and blue, in the mean."""
    return views.mean(dim=(0, 2, 3))


def test_fresh_and_replayed_views_cover_the_same_area(loader):
    made = loader()
    fresh = [batch for _ in range(4) for batch in made]  # also the views: 96 of each
    for view in range(2):
        ours = torch.cat([batch.views[view] for batch in fresh])
        again = torch.cat([made.views_of(torch.arange(NUMBER), f"replay{i}")[view] for i in range(4)])
        assert again.shape == (96, 3, (8, 4)[view], (8, 4)[view])
        for seen in (ours, again):
            assert (shares(seen) > 0.15).all() and shares(seen).sum() == pytest.approx(1, abs=0.02)
        assert (shares(ours) - shares(again)).abs().max() < 0.15


def test_processes_draw_other_replayed_views(loader):
    drawn = []
    for rank in (0, 1):
        made = loader(rank=rank, world_size=2)
        next(iter(made))
        drawn.append(made.views_of(torch.tensor([3, 3, 5]), "replay")[0])
    assert not torch.equal(*drawn) and not torch.equal(drawn[0][0], drawn[0][1])


def test_replayed_views_are_a_function_of_the_step(loader):
    whole, resumed = loader(), loader()
    index, steps = torch.tensor([3, 5, 9]), []
    for _ in whole:
        steps.append(whole.views_of(index, "replay"))
    assert not torch.equal(steps[0][0], steps[1][0])
    resumed.load_state_dict({"step": 1})
    next(iter(resumed))
    assert all(map(torch.equal, steps[1], resumed.views_of(index, "replay")))
    assert not torch.equal(steps[1][0], resumed.views_of(index, "other")[0])


def test_a_damaged_file_that_replays_is_named(loader, paths, tmp_path):
    bad = tmp_path / "torn.png"
    bad.write_bytes(paths[0].read_bytes()[:60])
    made = loader([*paths[:-1], bad])
    with pytest.raises(DataError, match=f"{bad}: "):
        made.views_of(torch.tensor([0, NUMBER - 1]), "replay")
