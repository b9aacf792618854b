"""What a step with a memory costs: ``python benchmarks/minred.py``.

One step is: insert a batch of 256, then K = 5 times draw 256 entries and update their features (512 dims), as on a
stream of videos of 64 frames each. MinRed keeps its nearest neighbours up to date; it is compared with the dense greedy
rule that it equals (all cosines anew, then one scan of the matrix per removal), at sizes at which that one fits. Dense
work grows with the square of the size; beyond the largest size measured its time is extrapolated so, and marked. FIFO
and reservoir: one insert and one draw of 256 at the full size. All on one thread, in seconds of CPU time.

Exits 1 when MinRed at the full size is less than 30 times faster than the (extrapolated) dense rule, when the two keep
different entries, or when a FIFO or a reservoir needs more than 1 ms.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # runs from a checkout, installed or not

import numpy as np
import torch
from table import print_table, verdict
from torch import Tensor

from cassle.memory.base import Memory
from cassle.memory.fifo import FIFO
from cassle.memory.minred import MinRed
from cassle.memory.reservoir import Reservoir
from cassle.randomness import generator

DIM, BATCH, UPDATES, FRAMES = 512, 256, 5, 64
TARGET_RATIO, TARGET_MS = 30.0, 1.0


class DenseMinRed(MinRed):
    """MinRed by the matrix of all cosines: slow, and obviously right."""

    def _leaving(self, members: np.ndarray, number: int, features: Tensor, state: dict[str, np.ndarray]) -> np.ndarray:
        candidates = members[state["seen"][members]]
        if len(candidates) < 2 * number:
            return members[:number]
        rows = features[torch.from_numpy(candidates)]
        cosines = (rows @ rows.T).fill_diagonal_(-10)
        removed = []
        for _ in range(number):
            worst = int(cosines.amax(dim=1).argmax())
            cosines[worst], cosines[:, worst] = -10, -10
            removed.append(worst)
        return candidates[removed]


class Stream:
    """Videos that never end: the feature of a frame is its video's direction, and a little noise at every look."""

    def __init__(self) -> None:
        self.position = 0

    def keys(self) -> Tensor:
        """Return the next batch."""
        self.position += BATCH
        return torch.arange(self.position - BATCH, self.position)

    def look(self, keys: Tensor, draws: torch.Generator) -> Tensor:
        """Return features of frames."""
        directions = torch.randn(2048, DIM, generator=generator(0, "videos"))
        # Videos share directions in pairs, so there are more of them than rows here.
        video = keys // FRAMES
        own = directions[video % 2048] + directions[(video * 7919 + 13) % 2048]
        return own + torch.randn(len(keys), DIM, generator=draws)


def filled(kind: type[MinRed], size: int) -> tuple[MinRed, Stream]:
    """Return a full memory, three quarters of which were looked at, as in the middle of a stream."""
    memory, stream, draws = kind(size, DIM), Stream(), generator(0, "start")
    for _ in range(size // BATCH):
        memory.insert(stream.keys(), generator=draws)
    looked = memory.slots[: 3 * size // 4]
    for some in looked.split(4096):
        memory.update(some, stream.look(memory.keys[some], draws))
    return memory, stream


def step(memory: MinRed, stream: Stream, draws: torch.Generator) -> float:
    """Do one step; return its seconds, without those of making the features."""
    start = time.process_time()
    memory.insert(stream.keys(), generator=draws)
    seconds = time.process_time() - start
    for _ in range(UPDATES):
        start = time.process_time()
        slots = memory.sample(BATCH, draws)
        keys = memory.entries(slots).keys
        middle = time.process_time()
        features = stream.look(keys, draws)
        end = time.process_time()
        memory.update(slots, features)
        seconds += middle - start + time.process_time() - end
    return seconds


def measured(kind: type[MinRed], size: int, steps: int) -> tuple[float, float, Tensor]:
    """Return the seconds of the first step and of a later one (median), and the keys that are kept in the end."""
    memory, stream = filled(kind, size)
    draws = generator(0, "steps")
    seconds = [step(memory, stream, draws) for _ in range(steps + 1)]
    return seconds[0], statistics.median(seconds[1:]), memory.keys[memory.slots]


def milliseconds(make: Callable[[], Memory], size: int, steps: int) -> float:
    """Return the median time of one insert and one draw, in milliseconds, in a full memory."""
    memory, draws = make(), generator(0, "simple")
    memory.insert(torch.arange(size), features=torch.zeros(size, DIM), generator=draws)
    keys, features = torch.arange(BATCH), torch.ones(BATCH, DIM)
    seconds = []
    for _ in range(steps):
        start = time.process_time()
        memory.insert(keys, features=features, generator=draws)
        memory.sample(BATCH, draws)
        seconds.append(time.process_time() - start)
    return 1e3 * statistics.median(seconds)


def main() -> int:
    """Print the tables and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=65536, help="entries of the large memory (default 65536)")
    parser.add_argument("--dense", type=int, nargs="+", default=[2048, 4096, 8192], help="sizes of the dense rule")
    parser.add_argument(
        "--steps", type=int, default=5, help="timed steps of MinRed (default 5); the dense rule takes 2"
    )
    args = parser.parse_args()
    torch.set_num_threads(1)

    rows: list[tuple[object, ...]] = [("entries", "first step, s", "a step, s", "dense, s", "ratio")]
    dense, same = 0.0, True
    for size in (*args.dense, args.size):
        first, seconds, kept = measured(MinRed, size, args.steps if size == args.size else 2)
        if size == args.size:
            dense *= (size / args.dense[-1]) ** 2
        else:
            _, dense, expected = measured(DenseMinRed, size, 2)
            same &= torch.equal(kept, expected)
        note = " (extrapolated)" if size == args.size else ""
        rows.append((size, f"{first:.2f}", f"{seconds:.3f}", f"{dense:.2f}{note}", f"{dense / seconds:.1f}"))
    print_table(rows)
    print("first step: all bounds from nothing, as after looking at three quarters of the memory at once\n")

    good = verdict("MinRed, times faster than dense", dense / seconds, TARGET_RATIO, least=True)
    print(f"MinRed keeps what the dense rule keeps: {'ok' if same else 'NO'}")
    for kind in (FIFO, Reservoir):
        needed = milliseconds(lambda kind=kind: kind(args.size, DIM), args.size, 50)
        good &= verdict(f"{kind.__name__}, ms for an insert and a draw", needed, TARGET_MS, least=False)
    return 0 if good and same else 1


if __name__ == "__main__":
    sys.exit(main())
