"""What a user of streams may get wrong: the command ends before any training, with one message that says what to do.

Settings that contradict each other are in ``test_stream.py``; every kind of bad list and video in ``tests/data``.
"""

import re
import sys
import time

import numpy as np
import pytest
import torch
from PIL import Image

from cassle.cli import main_continual
from tests.data.test_videos import write as write_video
from tests.engine import TINY

FLAGS = {
    **{k: v for k, v in TINY.items() if k not in ("num_tasks", "max_epochs", "warmup_epochs")},
    "method": "simclr", "size": 8, "batch_size": 4, "num_workers": 1, "num_threads": 1,
}  # fmt: skip
DIGITS = {"stream": "class", "batch_size": 128, "size": None}
MINRED = {**DIGITS, "strategy": "minred", "mem_size": 256}
RUNS = {**DIGITS, "stream": "runs"}


def image(path, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(values).save(path)


def names(number, start=0):
    return "".join(f"{i // 10}/{i}.png\n" for i in range(start, start + number))


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    """A folder with good and bad files of all kinds; the tests run in it."""
    root = tmp_path_factory.mktemp("input")
    for i in range(40):
        image(root / f"frames/{i // 10}/{i}.png", i)
        (root / "broken").mkdir(exist_ok=True)
        (root / f"broken/{i}.png").write_bytes(b"no image")
    texts = {
        "good": names(40), "empty": "", "gone": names(40, 50), "half": names(40) + names(40, 50),
        "one_bad_line": names(12) + "\n" + names(28, 12), "broken": "".join(f"../broken/{i}.png\n" for i in range(40)),
    }  # fmt: skip
    for name, content in texts.items():
        (root / f"{name}.txt").write_text(content)
    np.save(root / "numbers.npy", np.zeros((3, 3)))
    for name in ("nothing", "texts", "no_frames", "damaged", "short"):
        (root / name).mkdir()
    (root / "texts/a.mp4").write_text("no video")
    write_video(root / "no_frames/a.avi", 0)
    write_video(root / "short/a.mp4", 6)
    (root / "short/b.mp4").write_text("no video")
    whole = bytearray(write_video(root / "damaged/a.mp4", 20).read_bytes())
    start, stop = whole.index(b"mdat") + 4, whole.index(b"moov") - 4  # the pictures, and not what describes them
    whole[start:stop] = bytes(stop - start)
    (root / "damaged/a.mp4").write_bytes(whole)
    return root


@pytest.fixture
def command(here, tmp_path, monkeypatch, capsys):
    """Return a function that runs a command; it returns the exit code, what was printed, and the folder."""
    monkeypatch.chdir(here)

    def run(**settings):
        settings = {**FLAGS, **settings, "experiment_dir": tmp_path / "run"}
        words = [str(word) for name, value in settings.items() if value is not None for word in (f"--{name}", value)]
        code = main_continual(words)
        said = capsys.readouterr()
        return code, said.out, said.err, tmp_path / "run"

    return run


def listed(name, **more):
    return {"dataset": "list", "data_dir": "frames", "stream_file": name, **more}


def frames(folder, **more):
    return {"dataset": "frames", "data_dir": folder, **more}


def videos(folder, **more):
    return {"dataset": "video", "data_dir": folder, **more}


REFUSED = {
    "empty list": (listed("empty.txt"), r"empty\.txt: an empty list; a line for each image is expected"),
    "no such list": (listed("none.txt"), r"none\.txt: the list cannot be read \(No such file.*Give the path"),
    "no such list of names": (listed("none.npy"), r"none\.npy: the list cannot be read \(No such file.*Give the path"),
    "all files missing": (
        listed("gone.txt"),
        r"gone\.txt: no file of the 40 lines .* is there, e\.g\. frames/5/50\.png\. Give the folder .*now frames",
    ),
    "array of numbers": (listed("numbers.npy"), r"numbers\.npy: float64 \(3, 3\); .*byte names is expected"),
    "one bad line": (listed("one_bad_line.txt"), r"one_bad_line\.txt, line 13: empty\. Correct or remove"),
    "no file of a list decodes": (listed("broken.txt"), r"broken\.txt: not one of the 40 files .* Repair them, or"),
    "nothing in a folder": (frames("nothing"), r"--data_dir nothing: no images \(\.bmp"),
    "no such folder": (frames("nowhere"), r"--data_dir nowhere: no such folder"),
    "no frame decodes": (frames("broken"), r"--data_dir broken: not one of the 40 .*e\.g\. broken/0\.png: cannot"),
    "subsample of 0": (listed("good.txt", subsample=0), r"--subsample 0: must be at least 1"),
    "no video in a folder": (videos("nothing"), r"--data_dir nothing: no video that opens.*It is empty"),
    "no such folder of videos": (videos("nowhere"), r"--data_dir nowhere: no such folder"),
    "a text as a video": (videos("texts"), r"--data_dir texts: no video that opens[^\n]*\n *a\.mp4: Invalid data"),
    "a video without frames": (videos("no_frames"), r"--data_dir no_frames: no video that opens[^\n]*\n *a\.avi: "),
    "no picture of a video decodes": (videos("damaged"), r"--data_dir damaged: no frame decodes in any of the 1 vid"),
    "fps of 0": (videos("short", fps=0), r"--fps 0\.0: must be above 0; e\.g\. 8"),
    "fps below 0": (videos("short", fps=-2), r"--fps -2\.0: must be above 0; e\.g\. 8"),
    "fps not a number": (videos("short", fps="nan"), r"--fps nan: must be a number"),
    "fps without limit": (videos("short", fps="inf"), r"--fps inf: must be a number"),
    "slots below 0": (videos("short", n_seq_samples=-1), r"--n_seq_samples -1: must be at least 0"),
    "K of 0": ({**DIGITS, "num_updates": 0}, r"--num_updates 0: must be at least 1"),
    "a stream of nothing": ({**DIGITS, "stream_length": 0}, r"--stream_length 0: must be at least 1"),
    "no pass": ({**DIGITS, "stream_epochs": 0}, r"--stream_epochs 0: must be at least 1"),
    "read ahead below 0": ({**DIGITS, "prefetch": -1}, r"--prefetch -1: must be at least 0"),
    "memory below the batch": ({**MINRED, "mem_size": 64}, r"--mem_size 64: every step draws 128 .*give 128 or more"),
    "memory below the replay": (
        {**DIGITS, "strategy": "er", "mem_size": 16},
        r"--mem_size 16: every step draws 64 .*smaller --replay_batch_size",
    ),
    "warm-up below 0": ({**MINRED, "memory_warm_up": -1}, r"--memory_warm_up -1: must be at least 0"),
    "batch above the stream": (
        {**DIGITS, "batch_size": 2000},
        r"--batch_size: the stream has 1347 samples, which is not one batch of 2000.*use a smaller one",
    ),
    "batch above the files": (frames("frames", batch_size=64), r"--batch_size: the stream has 40 samples.*of 64"),
    "subsample above the list": (listed("good.txt", subsample=100), r"--batch_size: the stream has 1 samples"),
    "batch above the length": ({**DIGITS, "stream_length": 100}, r"the stream has 100 .*or a larger --stream_length"),
    "batch above the runs": ({**RUNS, "stream_length": 100}, r"the stream has 100 .*or a larger --stream_length"),
    "warm-up above the stream": (
        {**MINRED, "mem_size": 6000, "memory_warm_up": 5000},
        r"--memory_warm_up 5000: the stream has 1347 samples, which leaves no batch of 128 to train on; give less",
    ),
    "fps of no video": ({**DIGITS, "fps": 4}, r"--fps"),
    "a list for no list": ({**DIGITS, "stream_file": "good.txt"}, r"--stream_file"),
    "warm-up above the memory": ({**MINRED, "memory_warm_up": 512, "stream_length": 640}, r"--memory_warm_up 512: "),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_before_the_training(case, command):
    settings, words = REFUSED[case]
    code, out, err, folder = command(**settings)
    assert code == 2 and err.startswith("1 problem:") and re.search(words, err), err
    assert "step" not in out and not (folder / "task0").exists()


@pytest.mark.parametrize("case", ["batch above the files", "subsample above the list"])
def test_the_folder_takes_the_corrected_command(case, command):
    settings, _ = REFUSED[case]
    assert command(**settings)[0] == 2
    code, _, err, _ = command(**{**settings, "batch_size": 4, "subsample": None, "eval_at": 100})
    assert code == 0, err


@pytest.mark.parametrize("updates", [1, 4])
def test_minred_that_becomes_a_fifo_is_said_only_where_it_does(updates, command):
    settings = {**MINRED, "feature_on_arrival": "false", "num_updates": updates, "stream_length": 256, "eval_at": 100}
    code, out, err, _ = command(**settings)
    assert code == 0, err
    assert ("Note: --feature_on_arrival false: with one update per batch" in out) == (updates == 1)


def test_a_missing_extra(command, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    code, _, err, _ = command(**videos("short"))
    assert code == 2 and "--dataset video: needs PyAV, which is not installed; pip install 'cassle[video]'" in err


@pytest.mark.parametrize("name", ["one.txt", "one.npy"])
def test_one_bad_line_of_a_million_is_named_in_seconds(name, command, tmp_path):
    lines = [b"folder/%07d.jpg" % i for i in range(1_000_000)]
    lines[765_432] = b"folder/\xff.jpg"
    if name == "one.txt":
        (tmp_path / name).write_bytes(b"\n".join(lines))
    else:
        np.save(tmp_path / name, np.array(lines, dtype="S120"))
    start = time.process_time()  # of this process: others may have the machine
    code, _, err, folder = command(**listed(tmp_path / name))
    assert code == 2 and re.search(rf"{name}, (line|row) 765433: .*UTF-8.*orrect or remove", err), err
    assert time.process_time() - start < 15 and not folder.exists()


WORKS = {
    "some files are missing": (listed("half.txt"), 80, 40),
    "more slots than frames": (videos("short", n_seq_samples=20), 20, 0),
    "a length that no batch divides": (frames("frames", stream_length=37), 36, 0),
    "a length beyond the end": (frames("frames", stream_length=1000), 40, 0),
}


@pytest.mark.parametrize("case", WORKS)
def test_trained_on_with_what_is_wrong_counted(case, command):
    settings, samples, skipped = WORKS[case]
    code, out, err, folder = command(**settings)
    assert code == 0, err
    loader = torch.load(folder / "task3" / "final.ckpt", weights_only=True)["carried"]["loader"]
    (own,) = loader["processes"]
    assert loader["step"] == samples // 4 and own["num_skipped"] == skipped
    assert len(own["skipped"]) == skipped and all("No such file" in reason for reason in own["skipped"])
    assert ("Skipped a file: b.mp4: Invalid data" in out) == (settings["dataset"] == "video")
    assert f"samples {samples}/{samples}" in out and f"skipped {skipped}" in out
