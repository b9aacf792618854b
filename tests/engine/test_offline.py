"""The hardware of an offline evaluation."""

import pytest
import torch

from cassle.cli import main_linear

from . import run

FLAGS = ["--knn_k", "2", "--few_labels", "0", "--disable_linear_eval", "--device", "cpu"]


@pytest.fixture
def threads():
    """A function that tells torch's threads; afterwards they are what they were."""
    before = torch.get_num_threads()
    yield torch.get_num_threads
    torch.set_num_threads(before)


def test_the_threads_of_torch(tmp_path, threads, capsys):
    run(tmp_path, method="simclr", max_epochs=1, disable_linear_eval=True, disable_online_eval=True)
    line = [*FLAGS, "--pretrained_feature_extractor", str(tmp_path / "job" / "task1" / "final.ckpt")]
    before = threads()
    assert main_linear(line) == 0 and threads() == before  # as they are
    assert main_linear([*line, "--num_threads", str(before + 1)]) == 0 and threads() == before + 1
    assert main_linear([*line, "--num_threads", "0"]) == 2
    assert "--num_threads 0: must be at least 1" in capsys.readouterr().err
