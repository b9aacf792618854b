"""How many videos a memory holds, and a training batch, while a folder of videos passes once: FIFO against MinRed.

    python benchmarks/videos.py VIDEOS

Runs ``bash_files/stream/videos/fifo.sh`` and ``minred.sh`` (SimSiam, two minutes on two cores; runs that are finished
are not run again), prints one table of both, and writes ``videos.png``.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from runs import ROOT
from table import print_table

MEMORIES = {"fifo": "#d94801", "minred": "#08519c"}
HELD = {"origins_in_memory": "in the memory", "origins_in_batch": "in a training batch"}


def run(memory: str, videos: Path, out: Path) -> dict[str, Any]:
    """Run one script, or continue it, and return its results.

    Raises:
        CalledProcessError: it failed.
    """
    script = f"bash_files/stream/videos/{memory}.sh"
    command = [sys.executable, "job_launcher.py", "--script", script, "--base_experiment_dir", str(out)]
    subprocess.run(command, cwd=ROOT, env={**os.environ, "DATA_DIR": str(videos)}, check=True)
    return json.loads((out / f"{memory}-videos" / "results.json").read_text())


def picture(found: dict[str, dict[str, Any]], path: Path) -> None:
    """Draw both runs, a panel for the memory and one for the batch."""
    figure = Figure(figsize=(9, 3.2), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (name, where) in zip(figure.subplots(1, 2, sharey=True), HELD.items(), strict=True):
        for memory, colour in MEMORIES.items():
            rows = found[memory]["along"]
            axes.plot([row["step"] for row in rows], [row[name] for row in rows], color=colour, label=memory)
        axes.set_title(f"different videos {where}", fontsize=10)
        axes.set_xlabel("optimizer steps", fontsize=9)
        axes.set_ylim(bottom=0)
        axes.legend(fontsize=8)
    figure.savefig(path)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", type=Path, help="folder of videos")
    parser.add_argument("--out", type=Path, default=Path("experiments/videos"), help="folder of the experiments")
    arguments = parser.parse_args()
    videos, out = arguments.videos.resolve(), arguments.out.resolve()
    found = {memory: run(memory, videos, out) for memory in MEMORIES}
    head = [f"{memory}: {where}" for memory in MEMORIES for where in HELD.values()]
    rows = [["step", "frames arrived", "skipped", *head]]
    along = list(zip(*(found[memory]["along"] for memory in MEMORIES), strict=True))
    for pair in [*along[::6], along[-1]]:
        numbers = [pair[0][name] for name in ("step", "samples", "skipped")]
        numbers += [row[name] for row in pair for name in HELD]
        rows.append([f"{number:.0f}" for number in numbers])
    print_table(rows)
    for name in found["minred"]["skipped"]:
        print(f"skipped: {name}")
    picture(found, out / "videos.png")
    print(out / "videos.png")
    return 0


if __name__ == "__main__":
    sys.exit(main())
