"""The engines draw from the same distributions, whatever they draw by: a step, or a position."""

from unittest import mock

import pytest
import torch
from scipy.stats import ks_2samp

from cassle.data import decoding, views
from cassle.data.dali import feed
from cassle.data.parameters import ViewParameters
from cassle.data.pixels import FilePixels
from cassle.data.recipe import Recipe
from cassle.data.resident import ResidentLoader
from cassle.data.workers import WorkerLoader

NUMBER, SIDE = 1200, 20
RECIPE = Recipe(
    size=8, mean=(0.0,) * 3, std=(1.0,) * 3, brightness=0.4, contrast=0.6, saturation=0.3, hue=0.2, solarize_prob=0.3
)
TARGETS, MEMBERS = torch.zeros(NUMBER, dtype=torch.int64), torch.arange(NUMBER)
COMMON = {"batch_size": 100, "seed": 4, "task": 0}


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    from PIL import Image

    path = tmp_path_factory.mktemp("images") / "one.png"
    Image.new("RGB", (SIDE, SIDE), "red").save(path)
    return [path] * NUMBER


def resident(paths):
    pixels = torch.zeros(NUMBER, 3, SIDE, SIDE, dtype=torch.uint8)
    list(ResidentLoader(pixels, TARGETS, MEMBERS, [RECIPE], **COMMON))


def by_workers(paths):
    list(WorkerLoader(FilePixels(paths, SIDE, 1), TARGETS, MEMBERS, [RECIPE], num_workers=0, **COMMON))


def by_dali(paths):
    order = ResidentLoader(FilePixels(paths, SIDE, 1), TARGETS, MEMBERS, [RECIPE], **COMMON)
    plans = feed.Feed(order, feed.Sizes(paths, 1))
    for _ in range(len(order)):
        plans()


def drawn(make, module, paths) -> dict[str, torch.Tensor]:
    """Return all parameters of an epoch, by name: each a column of numbers."""
    found, draw = [], module.draw

    def recording(*args):
        found.append(draw(*args))
        return found[-1]

    with mock.patch.object(module, "draw", recording):
        make(paths)
    columns = {}
    for name in ViewParameters.__dataclass_fields__:
        values = torch.cat([getattr(params, name) for params in found]).float()
        assert len(values) == NUMBER
        columns |= {f"{name}{i}": column for i, column in enumerate(values.view(NUMBER, -1).unbind(1))}
    return columns


@pytest.fixture(scope="module")
def ours(paths):
    return drawn(resident, views, paths)


@pytest.mark.parametrize(("make", "module"), [(by_workers, decoding), (by_dali, feed)], ids=["workers", "dali"])
def test_the_parameters_of_the_resident_engine_and_of_others_have_one_distribution(make, module, paths, ours):
    theirs = drawn(make, module, paths)
    for name, column in ours.items():
        assert ks_2samp(column.numpy(), theirs[name].numpy(), method="asymp").pvalue > 1e-3, name
    assert (ours["jitter0"] == 1).any() and (ours["sigma0"] > 0).any() and (ours["solarize0"] == 1).any()
    # The worker engine draws by position, DALI's feed as the resident engine does.
    assert torch.equal(ours["factors0"], theirs["factors0"]) == (module is feed)


def test_another_distribution_would_be_seen(ours):
    column = ours["factors0"]
    assert ks_2samp(column.numpy(), (1 + 1.3 * (column - 1)).numpy()).pvalue < 1e-3
