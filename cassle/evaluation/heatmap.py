"""The accuracy matrices of a run as one picture, the same bytes for the same numbers."""

from __future__ import annotations

import io
import math
from collections.abc import Iterable
from typing import Any

ANNOTATED_TASKS = 20  # with more tasks the numbers would not fit into their cells


def heatmap_png(results: dict[str, Any], title: str) -> bytes:
    """Draw one panel per probe: rows are the random encoder and the encoder after each task, columns are tasks.

    Values are percent. A thin frame marks the task that was just trained; rows that do not exist yet stay empty.

    Args:
        results: as :func:`cassle.evaluation.report.assemble` returns them.
        title: stands above the panels.
    """
    import matplotlib  # here, because it is slow to import and needed once a task

    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # whatever matplotlibrc says: the bytes depend on the numbers only
        return _draw(results, title)


def _draw(results: dict[str, Any], title: str) -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    probes, tasks = results["probes"], results["num_tasks"]
    columns = 1 if len(probes) == 1 or tasks > ANNOTATED_TASKS else 2
    lines = math.ceil(len(probes) / columns)
    cell = 0.45 if tasks <= ANNOTATED_TASKS else 0.2  # inches
    width, height = max(2.5, tasks * cell) + 1.3, (tasks + 1.3) * cell + 1.1
    figure = Figure(figsize=(columns * width + 1.2, lines * height + 0.4), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=11)
    grid = figure.subplots(lines, columns, squeeze=False).ravel()
    scale = colour_scale(
        [v for probe in probes.values() for row in (probe["random"], *probe["accuracy_matrix"]) for v in row]
    )
    for axes, (name, probe) in zip(grid[: len(probes)], probes.items(), strict=True):
        colours = _panel(axes, name, probe, tasks, scale)
    bar = figure.colorbar(colours, ax=list(grid[: len(probes)]), aspect=30, shrink=0.8, format="%g")
    bar.set_label("accuracy (%)", fontsize=9)
    bar.ax.tick_params(labelsize=8)
    bar.outline.set_visible(False)
    for axes in grid[len(probes) :]:
        axes.remove()
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})  # no version and no date
    return buffer.getvalue()


def colour_scale(fractions: Iterable[float]) -> tuple[int, int]:
    """Return the percents where the colours begin and end, one scale for all panels: the tens around all values.

    It does not begin at 0, so that 95 and 99 differ in colour.
    """
    percents = [100 * value for value in fractions]
    low = min(10 * math.floor(min(percents) / 10), 90)
    return low, max(10 * math.ceil(max(percents) / 10), low + 10)


def _panel(axes: Any, name: str, probe: dict[str, Any], tasks: int, scale: tuple[int, int]) -> Any:
    """Draw one probe; return what has its colours."""
    from matplotlib.patches import Rectangle

    low, high = scale
    # y of each row: the random encoder at -1.3, a gap, then the tasks at 0, 1, …
    for y, row in [(-1.3, probe["random"]), *enumerate(probe["accuracy_matrix"])]:
        percent = [100 * value for value in row]
        place = (-0.5, tasks - 0.5, y + 0.5, y - 0.5)
        colours = axes.imshow([percent], cmap="Blues", vmin=low, vmax=high, extent=place)
        for x, value in enumerate(percent) if tasks <= ANNOTATED_TASKS else ():
            colour = "white" if value - low > 0.65 * (high - low) else "black"
            axes.text(x, y, f"{value:.1f}", ha="center", va="center", fontsize=8, color=colour)
        if y >= 0:
            frame = Rectangle((y - 0.5, y - 0.5), 1, 1, fill=False, edgecolor="#d95f02", linewidth=1.5)
            frame.set(zorder=3, clip_on=False)
            axes.add_patch(frame)
    every = 1 if tasks <= ANNOTATED_TASKS else 5
    shown = list(range(0, tasks, every))
    axes.set(xlim=(-0.5, tasks - 0.5), ylim=(tasks - 0.5, -1.8), aspect="equal")
    axes.set_xlabel("task", fontsize=9)
    axes.set_xticks(shown, [str(task) for task in shown], fontsize=8)
    axes.set_yticks([-1.3, *shown], ["random", *(f"after {task}" for task in shown)], fontsize=8)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_title(f"{name}: accuracy (%)", fontsize=10)
    return colours
