"""From the ledger to the content of ``results.json``."""

from __future__ import annotations

from typing import Any

from cassle.data import STREAMED
from cassle.data.centre import view_in_words
from cassle.data.module import TaskData
from cassle.engine import reshard
from cassle.engine.folder import ExperimentFolder
from cassle.engine.identity import identity_of
from cassle.engine.ledger import Ledger
from cassle.engine.plan import Plan
from cassle.evaluation import report


def results_of(plan: Plan, ledger: Ledger) -> dict[str, Any]:
    """Return accuracy matrices, their summaries, the protocol and the settings of the tasks that are done."""
    rows = [record.rows for record in ledger.tasks if record.rows]
    matrix = {probe: [row[probe] for row in rows] for probe in ledger.random}
    protocol = protocol_of(plan, ledger, classifier="classifier" in ledger.random)
    about = identity_of(plan, ExperimentFolder(ledger.path.parent).manifest())
    return report.assemble(matrix, ledger.random, protocol, plan.data.num_tasks, about)


def protocol_of(plan: Plan, ledger: Ledger, *, classifier: bool = False) -> dict[str, Any]:
    """Return how a run is trained and evaluated, in words and numbers."""
    data = plan.evaluation_data or plan.data
    how = {"domain_aware": data.knows_domains, "shared_val": data.shares_val}
    seen = data.dataset not in STREAMED  # else nothing is evaluated
    view = {"view": view_in_words(plan.size, data.benchmark.eval_border, stored_side(data, plan.size))} if seen else {}
    return {
        **plan.evaluation.describe(classifier=classifier, **how),
        **view,
        **_stored(plan, ledger),
        "method": plan.method,
        "distiller": plan.distiller,
        "strategy": plan.strategy,
        "memory": plan.memory,
        "backbone": plan.backbone,
        "dataset": plan.data.dataset,
        "split_strategy": plan.data.split_strategy,
        "seed": plan.run.seed,
        **batch_of(plan),
        **reshard.protocol(ledger),
    }


def _stored(plan: Plan, ledger: Ledger) -> dict[str, Any]:
    """Return who made the views of the training, and the side in pixels at which the images were stored for it.

    Workers and DALI cut views from whole files: then the side is that of the images that are evaluated.
    """
    if plan.streamed:
        return {"storage_size": plan.open_stream(None).side}
    manifest = ExperimentFolder(ledger.path.parent).manifest() or {}
    return {"engine": manifest.get("engine"), "storage_size": stored_side(plan.data, plan.size)}


def stored_side(data: TaskData, size: int) -> int:
    """Return the side at which images lie in memory, in pixels: arrays have their own."""
    return data.storage_side(size) if data.in_files else data.parts()[0].source.side(size)


def batch_of(plan: Plan) -> dict[str, Any]:
    """Return the batch of a process and of an optimizer step, in images, and the peak of the learning rate."""
    training, optimization = plan.training, plan.optimization
    return {
        "batch_size": training.batch_size,
        "processes": training.processes,
        "accumulate_grad_batches": training.accumulate,
        "images_per_step": training.images_per_step,
        "learning_rate": optimization.scaled_lr,
    }


def batch_line(plan: Plan) -> str:
    """Return in a line what :func:`batch_of` does, and how it comes about."""
    training, optimization, total = plan.training, plan.optimization, plan.training.images_per_step
    factors = [f"{training.batch_size} images", f"{training.processes} process{'es' * (training.processes > 1)}"]
    factors += [f"{training.accumulate} batches accumulated"] if training.accumulate > 1 else []
    line = f"Batch: {' x '.join(factors)} = {total} per step; learning rate {optimization.lr:g} x {total}/256 = "
    line += f"{optimization.scaled_lr:g}"
    if optimization.triangle_lr is not None:
        line += f", in triangles up to {optimization.triangle_lr * total / 256:g}"
    if training.processes > 1:
        whole = training.batch_size * training.processes
        synced, own = f"all {whole} images", f"each process's {training.batch_size} images"
        line += f"; batch norm over {synced if training.sync_batchnorm else own}"
    return f"{line}."
