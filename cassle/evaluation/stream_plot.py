"""The picture of a run over a stream: accuracy along it, and what the memory and the batches held."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from statistics import fmean
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LIGHT, DARK, OTHER = "#9ecae1", "#08519c", "#d94801"
PANELS_IN_A_ROW = 4


def picture(results: Mapping[str, Any], title: str) -> bytes:
    """Return a PNG with a panel per probe (the mean over the splits, and each in a lighter line; percent), and one of
    the different origins (videos, classes, folders) in the memory and in the batch; of the loss where there are none.
    """
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        panels = _panels(results)
        columns = min(len(panels), PANELS_IN_A_ROW)
        lines = -(-len(panels) // columns)
        figure = Figure(figsize=(max(4 * columns, 6), 3.2 * lines), dpi=120, layout="constrained")
        FigureCanvasAgg(figure)
        figure.suptitle(title, fontsize=11)
        grid = figure.subplots(lines, columns, squeeze=False).flat
        for axes, draw in zip(grid, panels, strict=False):
            draw(axes)
            axes.set_xlim(left=0)
        for axes in list(figure.axes)[len(panels) :]:
            axes.set_axis_off()
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", metadata={"Software": None})
        return buffer.getvalue()


def _panels(results: Mapping[str, Any]) -> list[Callable[[Axes], None]]:
    def accuracy(name: str, probe: Mapping[str, Any]) -> Callable[[Axes], None]:
        rows, x = [probe["random"], *probe["accuracy"]], [0, *results["samples"]]

        def draw(axes: Axes) -> None:
            for split in range(len(rows[0])):
                axes.plot(x, [100 * row[split] for row in rows], color=LIGHT, linewidth=1)
            axes.plot(x, [100 * fmean(row) for row in rows], color=DARK, marker="o", linewidth=2)
            axes.set_title(f"{name}: accuracy (%)", fontsize=10)
            axes.set_xlabel("samples of the stream", fontsize=9)

        return draw

    def lines(title: str, names: Mapping[str, str]) -> Callable[[Axes], None]:
        def draw(axes: Axes) -> None:
            for (name, label), colour, style in zip(names.items(), (DARK, OTHER), ("-", "--"), strict=False):
                found = [(row["step"], row[name]) for row in results["along"] if name in row]
                if found:
                    axes.plot(*zip(*found, strict=True), color=colour, linestyle=style, label=label, linewidth=2)
            if len(names) > 1:  # counts
                axes.yaxis.get_major_locator().set_params(integer=True)
            axes.set_title(title, fontsize=10)
            axes.set_xlabel("optimizer steps", fontsize=9)
            axes.set_ylim(bottom=min(0, axes.get_ylim()[0]))
            if len(names) > 1:
                axes.legend(fontsize=8)

        return draw

    panels = [accuracy(name, probe) for name, probe in results["probes"].items()]
    held = {"origins_in_memory": "in the memory", "origins_in_batch": "in a training batch"}
    if any(name in row for row in results["along"] for name in held):
        return [*panels, lines("different videos, classes or folders", held)]
    return [*panels, lines("loss", {"loss": "loss"})]
