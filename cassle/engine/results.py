"""From the ledger to the content of ``results.json``."""

from __future__ import annotations

from typing import Any

from cassle.data.centre import view_in_words
from cassle.engine import reshard
from cassle.engine.ledger import Ledger
from cassle.engine.plan import Plan
from cassle.evaluation import report


def results_of(plan: Plan, ledger: Ledger) -> dict[str, Any]:
    """Return accuracy matrices, their summaries and the protocol of the tasks that are done."""
    rows = [record.rows for record in ledger.tasks if record.rows]
    matrix = {probe: [row[probe] for row in rows] for probe in ledger.random}
    protocol = protocol_of(plan, ledger, classifier="classifier" in ledger.random)
    return report.assemble(matrix, ledger.random, protocol, plan.data.num_tasks)


def protocol_of(plan: Plan, ledger: Ledger, *, classifier: bool = False) -> dict[str, Any]:
    """Return how a run is trained and evaluated, in words and numbers."""
    data = plan.evaluation_data or plan.data
    how = {"domain_aware": data.knows_domains, "shared_val": data.shares_val}
    return {
        **plan.evaluation.describe(classifier=classifier, **how),
        "view": view_in_words(plan.size, data.benchmark.eval_border),
        "method": plan.method,
        "distiller": plan.distiller,
        "strategy": plan.strategy,
        "memory": plan.memory,
        "backbone": plan.backbone,
        "dataset": plan.data.dataset,
        "split_strategy": plan.data.split_strategy,
        "seed": plan.run.seed,
        **reshard.protocol(ledger),
    }
