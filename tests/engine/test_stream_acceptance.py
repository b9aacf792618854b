"""What Purushwalkam et al. 2022 say that a stream with a memory does, in real runs over small streams.

Elsewhere: that MinRed removes what the dense rule removes, ties included (tests/memory/test_minred.py); uses per row,
unseen entries and distinct videos of a memory alone (tests/memory); chunks of two processes (test_stream_processes.py);
runs killed at chosen steps and continued to equal bytes (test_stream.py); other orders in other epochs
(tests/data/test_streams.py, tests/data/test_videos.py); the note about MinRed with one update (test_stream_input.py).
"""

import csv
import random
import signal
import time

import numpy as np
import pytest
import torch
from PIL import Image

from cassle.data.orders import group_order
from cassle.data.stream_files import FolderStream
from cassle.data.streams import shard
from cassle.data.videos import VideoStream
from cassle.evaluation import stream_report
from cassle.memory.base import MOST_USES, Memory
from cassle.methods.base import SSLMethod
from tests.engine import TINY, Killed, assert_equal, read_until, run, start
from tests.engine.test_stream import kill_at_step, outcome

B = 32
STREAM = {
    **TINY, "method": "simclr", "max_epochs": 1, "warmup_epochs": 0, "batch_size": B, "lr": 0.05, "eval_at": [100],
    "disable_linear_eval": True, "num_workers": 1, "seed": 5,
}  # fmt: skip
DIGITS = {**STREAM, "stream": "class", "stream_length": 1024}


@pytest.fixture(autouse=True)
def plain_picture(monkeypatch):
    monkeypatch.setattr(stream_report, "picture", lambda *about: b"a picture")


def note_steps(patched):
    """Return a list that gets, for each step, what arrived and the keys that were drawn from the memory."""
    step, steps = SSLMethod.training_step, []

    def noting(model, batch, batch_idx):
        outputs = step(model, batch, batch_idx)
        keys = model.recalled.keys.tolist() if getattr(model, "recalled", None) is not None else []
        steps.append((batch.index.tolist(), keys))
        return outputs

    patched.setattr(SSLMethod, "training_step", noting)
    return steps


@pytest.fixture
def noted(monkeypatch):
    return note_steps(monkeypatch)


def final(folder, part=0):
    return torch.load(folder / "job" / f"task{part}" / "final.ckpt", weights_only=True)["state_dict"]


def table(folder, part=0):
    text = (folder / "job" / f"task{part}" / "metrics.csv").read_text()
    return [{k: float(v) for k, v in row.items() if v} for row in csv.DictReader(text.splitlines())]


# Uses per sample ----------------------------------------------------------------------------------------------------


def test_uses_of_a_sample_with_a_fifo(tmp_path, noted):
    # K on average in mid-stream, K / 2 for the first N (the warm-up skips half of theirs), 3 K / 2 for the last N (on
    # which the steps that are left are spent); in all, as many steps as K epochs have.
    K, N, number = 3, 256, 1024
    settings = {"strategy": "minred", "memory": "fifo", "mem_size": N, "memory_warm_up": N, "num_updates": K}
    run(tmp_path, **DIGITS, **settings, payload=True)
    assert [key for index, _ in noted[::K] for key in index] == list(range(N, number))  # after those of the warm-up
    drawn = torch.tensor([keys for _, keys in noted])
    assert drawn.shape == (number * K // B, B)
    uses = torch.bincount(drawn.flatten(), minlength=number)
    first, middle, last = (part.double().mean() for part in (uses[:N], uses[N:-N], uses[-N:]))
    assert middle == pytest.approx(K, rel=0.06)
    assert first == pytest.approx(K / 2, rel=0.1) and last == pytest.approx(1.5 * K, rel=0.1)
    # The memory counts the same: what lies in it, and what has left it.
    memory = final(tmp_path)
    assert sorted(memory["memory.keys"].tolist()) == list(range(number - N, number))
    assert torch.equal(memory["memory.uses"], uses[memory["memory.keys"]])
    assert torch.equal(memory["memory.uses_of_the_gone"], torch.bincount(uses[:-N], minlength=MOST_USES + 1))


def test_one_in_k_entries_of_minred_was_never_seen(tmp_path, monkeypatch):
    K, N = 3, 256
    recall, unseen = Memory.recall, []

    def noting(memory, number, generator):
        unseen.append(1 - float(memory.seen.double().mean()))
        return recall(memory, number, generator)

    monkeypatch.setattr(Memory, "recall", noting)
    settings = {"strategy": "minred", "mem_size": N, "memory_warm_up": N, "num_updates": K}
    run(tmp_path, **DIGITS, **settings, feature_on_arrival=False)
    steps = (1024 - N) * K // B  # while the stream comes; then nothing new arrives
    assert np.mean(unseen[steps // 2 : steps]) == pytest.approx(1 / K, abs=0.04)
    assert unseen[0] == 1 and unseen[-1] < 0.1


def test_on_arrival_everything_was_seen_and_is_the_default(tmp_path):
    settings = {"strategy": "minred", "mem_size": 64, "memory_warm_up": 64, "num_updates": 1, "stream_length": 256}
    said = []
    run(tmp_path, **{**DIGITS, **settings}, say=said.append)
    assert final(tmp_path)["memory.seen"].all() and not any("feature_on_arrival" in line for line in said)


# Order --------------------------------------------------------------------------------------------------------------


def test_with_four_processes_a_batch_of_each_is_one_video():
    W, L, G = 4, 64, 256
    order = group_order(torch.full((40,), L), seed=0, epochs=2)
    for t in range(order.length // G):
        parts = [order.index(*shard(t * G, rank, W, G // W)) for rank in range(W)]
        assert all(len((part // L).unique()) == 1 and (part.diff() == 1).all() for part in parts)
        assert len({int(part[0]) // L for part in parts}) == 4
        assert torch.equal(torch.cat(parts), order.index(t * G, G))
    eight = [order.index(*shard(0, rank, 8, G // 8)) for rank in range(8)]  # half a video each
    assert len({int(part[0]) // L for part in eight}) == 4


def test_every_pass_of_a_run_has_another_order(tmp_path, noted):
    run(tmp_path, **{**STREAM, "stream": "iid", "stream_epochs": 2, "batch_size": 449})  # a third of the digits
    passes = [[key for index, _ in noted[3 * e : 3 * e + 3] for key in index] for e in (0, 1)]
    assert passes[0] != passes[1] and sorted(passes[0]) == sorted(passes[1]) == list(range(1347))


# A run that is continued --------------------------------------------------------------------------------------------

MINRED = {
    **DIGITS, "strategy": "minred", "mem_size": 96, "memory_warm_up": 96, "num_updates": 3, "payload": True,
    "stream_length": 512, "eval_at": [50],
}  # fmt: skip


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """The folder of a run that was left alone, and what arrived and was drawn at each of its steps."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(stream_report, "picture", lambda *about: b"a picture")
        steps = note_steps(patched)
        run(folder, **MINRED)
    return folder / "job", steps


def test_a_continued_run_has_the_same_samples_in_the_same_order(uninterrupted, tmp_path, noted, monkeypatch):
    reference, steps = uninterrupted
    for step in (8, 32):  # in the middle of a batch of the first part, and of the second
        with monkeypatch.context() as patched:
            kill_at_step(patched, step)
            with pytest.raises(Killed):
                run(tmp_path, checkpoint_minutes=0, **MINRED)
    run(tmp_path, checkpoint_minutes=0, **MINRED)
    assert len(noted) == len(steps) == 48 and noted == steps
    assert_equal(outcome(tmp_path / "job"), outcome(reference))


def test_kill_9(uninterrupted, tmp_path):
    settings = {**MINRED, "eval_at": 50, "checkpoint_minutes": 0}
    for begin, end in ((1, 22), (24, 47)):
        process = start(tmp_path, **settings)
        read_until(process, f"step {random.randint(begin, end)} ")
        time.sleep(random.uniform(0, 0.05))
        process.send_signal(signal.SIGKILL)
        process.stdout.close()
        assert process.wait() == -signal.SIGKILL
    process = start(tmp_path, **settings)
    text = process.stdout.read()
    process.stdout.close()
    assert process.wait() == 0, text
    assert_equal(outcome(tmp_path / "job"), outcome(uninterrupted[0]))


# What is in the memory ----------------------------------------------------------------------------------------------


@pytest.fixture
def inserted(monkeypatch):
    """Return a list that gets every key that is ever offered to a memory."""
    insert, keys = Memory.insert, []

    def noting(memory, **rows):
        keys.extend(rows["keys"].tolist())
        return insert(memory, **rows)

    monkeypatch.setattr(Memory, "insert", noting)
    return keys


def frame(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.clip(values, 0, 255).astype(np.uint8)).save(path)


FRAMES = {**STREAM, "dataset": "frames", "num_tasks": 1, "size": 8}


@pytest.mark.parametrize("strategy", ["minred", "er"])
def test_what_does_not_decode_never_enters(strategy, tmp_path, inserted):
    broken = {3, 4, 40, *range(64, 96), 127}  # one batch wholly
    for i in range(128):
        frame(tmp_path / f"frames/{i}.png", np.random.default_rng(i).integers(0, 256, (8, 8, 3)))
        if i in broken:
            path = tmp_path / f"frames/{i}.png"
            path.write_bytes(path.read_bytes()[:60])
    settings = {"strategy": strategy, "mem_size": 60, "num_updates": 2, "replay_batch_size": 8}
    run(tmp_path, **FRAMES, data_dir=tmp_path / "frames", **settings)
    assert inserted == [i for i in range(128) if i not in broken]
    memory, last = final(tmp_path), table(tmp_path)[-1]
    assert last["skipped"] == len(broken) and last["samples"] == 128
    keys = memory["memory.keys"]
    assert not broken & {*keys.tolist()} and (keys >= 0).all()
    pixels = FolderStream(tmp_path / "frames", side=8).read(0, 128)
    place = {int(position): row for row, position in enumerate(pixels.positions)}
    assert torch.equal(memory["memory.payload"], pixels.pixels[[place[key] for key in keys.tolist()]])


def test_a_corrupted_video_is_counted_and_never_enters(shared_data, tmp_path, inserted):
    folder = shared_data / "videos"
    if not folder.is_dir():
        pytest.skip(f"no real videos: {folder} does not exist")
    settings = {
        "dataset": "video",
        "data_dir": folder,
        "n_seq_samples": 16,
        "num_tasks": 1,
        "size": 8,
        "batch_size": 16,
    }
    run(tmp_path, **{**STREAM, **settings}, strategy="minred", mem_size=100, num_updates=2)
    stream = VideoStream(folder, side=8, n_seq_samples=16, num_workers=1, seed=STREAM["seed"])
    whole = stream.read(0, 7 * 16)
    assert inserted == whole.positions.tolist() and 0 < len(inserted) < 7 * 16
    assert table(tmp_path)[-1]["skipped"] == 7 * 16 - len(inserted)
    assert [name.split(": ")[0] for name in whole.skipped] == ["corrupted.mp4"]
    memory = final(tmp_path)
    place = {int(position): row for row, position in enumerate(whole.positions)}
    rows = [place[key] for key in memory["memory.keys"].tolist() if key >= 0]
    filled = memory["memory.keys"] >= 0
    assert torch.equal(memory["memory.origins"][filled], whole.origins[rows])
    assert torch.equal(memory["memory.payload"][filled], whole.pixels[rows])


def test_minred_keeps_many_more_sources_than_a_fifo(tmp_path):
    sources, each, N = 32, 32, 64
    for source in range(sources):
        draws = np.random.default_rng(source)
        scene = draws.uniform(20, 235, (2, 2, 3)).repeat(4, 0).repeat(4, 1)
        for i in range(each):
            frame(tmp_path / f"frames/{source}/{i}.png", scene + draws.normal(0, 4, (8, 8, 3)))
    weak = {"min_scale": 0.7, "color_jitter_prob": 0.0, "gray_scale_prob": 0.0, "gaussian_prob": 0.0}
    held, together = {}, {}
    for memory in ("fifo", "minred"):
        settings = {"strategy": "minred", "memory": memory, "mem_size": N, "memory_warm_up": N, "num_updates": 2}
        run(tmp_path / memory, **FRAMES, data_dir=tmp_path / "frames", **weak, **settings)
        rows = [row for row in table(tmp_path / memory) if row["samples"] >= sources * each / 2]
        held[memory] = np.mean([row["origins_in_memory"] for row in rows])
        together[memory] = np.mean([row["origins_in_batch"] for row in rows])
    assert held["fifo"] <= 3 and held["minred"] > 5 * held["fifo"], held
    assert together["minred"] > 2.5 * together["fifo"], together
