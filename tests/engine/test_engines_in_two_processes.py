"""Files through workers in two processes: a run that is killed continues to equal numbers."""

import signal

import pytest

from benchmarks.trees import imagenet_tree, pictures

from .two_started import assert_same_training, ended, start_as_srun_does, wait_for

WORDS = """
    --dataset custom --engine workers --num_workers 1 --method simclr --strategy er --mem_size 16 --replay_batch_size 4
    --backbone tiny --width 4 --size 32 --num_tasks 2 --max_epochs 3 --batch_size 6 --output_dim 8 --proj_hidden_dim 16
    --disable_linear_eval --few_labels 0 --num_threads 1 --accelerator cpu --devices 2 --trainer_strategy ddp
"""
FLAGS = WORDS.split()


@pytest.mark.timeout(300)
def test_both_are_killed_and_continue(tmp_path):
    tree = imagenet_tree(tmp_path / "tree", pictures(96, None), classes=6, per_class=12)
    undisturbed, disturbed = tmp_path / "undisturbed", tmp_path / "disturbed"

    def started(folder, minutes):
        flags = [*FLAGS, "--data_dir", str(tree), "--experiment_dir", str(folder)]
        return start_as_srun_does(folder, [*flags, "--checkpoint_minutes", str(minutes)])

    ended(started(undisturbed, 9), undisturbed, 0)
    for task in ("task0", "task1"):
        both = started(disturbed, 0)
        wait_for(disturbed / task / "last.ckpt")
        for process in both:
            process.kill()
        ended(both, disturbed, -signal.SIGKILL)
    ended(started(disturbed, 9), disturbed, 0)
    assert "Engine: workers" in (tmp_path / "log0").read_text()
    assert_same_training(disturbed, undisturbed)
