"""What every test shares: shapes checked at run time, one thread, real data, and small image trees."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from jaxtyping import install_import_hook

# Before anything imports these modules: afterwards their functions would stay unchecked.
install_import_hook(
    [
        "cassle.losses",
        "cassle.evaluation.metrics",
        "cassle.evaluation.probes",
        "cassle.evaluation.features",
        "cassle.evaluation.protocol",
    ],
    "beartype.beartype",
)

import hypothesis  # noqa: E402
import torch  # noqa: E402 - after the hook, like everything that may import cassle
from PIL import Image  # noqa: E402

from cassle.data import workers  # noqa: E402
from tests.two_processes import IMPORTED  # noqa: E402

# The suite asks the same cases every time, so that a change is judged by what it changes. New ones are looked for with
# --hypothesis-profile search. A loaded machine is slow at times; the suite has a timeout of its own.
hypothesis.settings.register_profile("cassle", deadline=None, derandomize=True, database=None)
hypothesis.settings.register_profile("search", deadline=None, max_examples=1000, print_blob=True)
hypothesis.settings.load_profile("cassle")

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Tiny tensors: more threads only wait for each other, and results must not depend on their number."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def one_server():
    """The process out of which others are started is one for all tests, and has imported what any of them needs."""
    workers.IMPORTED = IMPORTED


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data beside the repository; tests that need it are skipped without it."""
    folder = REPOSITORY.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no real data: {folder} does not exist")
    return folder


@pytest.fixture
def noise_image() -> Callable[..., Path]:
    """Return a function that writes an image of seeded noise in any mode and format (by suffix)."""

    def write(path: Path, size: tuple[int, int] = (10, 8), mode: str = "RGB", seed: int = 0) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        values = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
        Image.fromarray(values).convert(mode).save(path)
        return path

    return write


@pytest.fixture
def truncated_image(noise_image) -> Callable[[Path], Path]:
    """Return a function that writes the first half of an image file."""

    def write(path: Path) -> Path:
        noise_image(path, (64, 64))
        data = path.read_bytes()
        path.write_bytes(data[: len(data) // 2])
        return path

    return write


@pytest.fixture
def image_tree(tmp_path, noise_image) -> Callable[..., Path]:
    """Return a function that makes an ImageFolder tree, by default of two classes with 6 + 4 and 2 + 2 images."""

    def make(
        train: Mapping[str, int] | None = None,
        val: Mapping[str, int] | None = None,
        *,
        size: tuple[int, int] = (10, 8),
        suffixes: tuple[str, ...] = (".png", ".jpg"),
    ) -> Path:
        root = tmp_path / "images"
        parts = {"train": train or {"cat": 6, "dog": 4}, "val": val or {"cat": 2, "dog": 2}}
        seed = 0
        for part, classes in parts.items():
            for name, count in classes.items():
                (root / part / name).mkdir(parents=True, exist_ok=True)
                for i in range(count):
                    seed += 1
                    noise_image(root / part / name / f"{i}{suffixes[i % len(suffixes)]}", size, seed=seed)
        return root

    return make
