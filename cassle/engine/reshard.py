"""``--reshard``: continuing a run on another number of processes, each of whose steps sees as many images as before.

What a run has in its checkpoints is written down for all processes together or is dealt anew when it is read: the order
of the data is cut into batches of all processes, the batch of a stream at hand and the images of a memory are cut
again. So nothing is lost or seen twice. But every process draws its own views, and sums are rounded in another order,
so the continuation is not byte-equal to a run that never changed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cassle.engine import checkpoint

if TYPE_CHECKING:
    from cassle.engine.folder import ExperimentFolder
    from cassle.engine.ledger import Ledger

#: settings that say where processes run, and how many
PLACES = ("devices", "num_nodes", "gpus", "accelerator", "trainer_strategy")
#: settings that count images of one process; None stands for as many as --batch_size
PER_PROCESS = ("batch_size", "replay_batch_size", "online_eval_batch_size")
NOT_EQUAL = "not byte-equal to a run that never changed"


def processes_of(config: Mapping[str, Any]) -> int:
    """Return the number of processes of a run."""
    gpus = config.get("gpus")
    return (len(gpus) if gpus else config.get("devices", 1)) * config.get("num_nodes", 1)


def counted(processes: int) -> str:
    """Return a number of processes in words."""
    return f"{processes} process{'' if processes == 1 else 'es'}"


def _totals(config: Mapping[str, Any]) -> dict[str, int]:
    """Return, for every setting per process, the images of all processes together."""
    given = {name: config[name] for name in PER_PROCESS if name in config}
    batch = given.get("batch_size")
    return {n: (batch if v is None else v) * processes_of(config) for n, v in given.items() if batch is not None}


def refusal(saved: Mapping[str, Any], config: Mapping[str, Any]) -> str | None:
    """Return that a run has another number of processes than it was begun with, and the way on; None if it has not."""
    before, now = processes_of(saved), processes_of(config)
    if before == now:
        return None
    begun = f"the run was begun with {counted(before)} and has {now} now."
    kept = {n: None for n, value in saved.items() if n in PER_PROCESS and value is None}  # as many as --batch_size
    wanted = {**kept, **{n: total // now for n, total in _totals(saved).items() if n not in kept and total % now == 0}}
    if left := problems(saved, {**config, **wanted}):
        return f"{begun} --reshard does not continue it on so many: {' '.join(left)} Or give {counted(before)} again."
    changed = [n for n in PER_PROCESS if n in wanted and wanted[n] != config.get(n)]
    flags = "".join(f" --{n} {_totals(saved)[n] // now}" for n in changed)
    return (
        f"{begun} --reshard{flags} continues it, no longer byte-equal to an undisturbed run; or give {counted(before)} "
        "again."
    )


def problems(saved: Mapping[str, Any], config: Mapping[str, Any]) -> list[str]:
    """Return which settings per process do not keep the images of all processes together, one sentence each."""
    before, now = processes_of(saved), processes_of(config)
    there, here = _totals(saved), _totals(config)
    shared, found = math.gcd(*there.values()), []
    for name in there.keys() & here.keys():
        if there[name] == here[name] or saved[name] is config[name] is None:  # then it is said of --batch_size
            continue
        fixes = [f"--{name} {there[name] // now}"] if there[name] % now == 0 else []
        each = here[name] // now
        if name == "batch_size" and there[name] % each == 0 and shared % (there[name] // each) == 0:
            fixes.append(f"--devices for {counted(there[name] // each)}")
        if not fixes:
            able = [n for n in range(1, 4 * before + 1) if shared % n == 0]
            fixes = [f"a number of processes that divides it ({', '.join(map(str, able))})"]
        found.append(
            f"--{name} {config[name]}: {counted(now)} would take {here[name]} images at a time, and the run was begun "
            f"with {there[name]} ({counted(before)} of {there[name] // before}); give {' or '.join(fixes)}."
        )
    return sorted(found)


def deal_anew(folder: ExperimentFolder, ledger: Ledger, config: Mapping[str, Any]) -> str | None:
    """Note in the ledger from where on a run has these processes, and in its folder that it has; return a line to say.

    The settings were compared before. What lies in the checkpoints is dealt anew by those who read it.
    """
    saved = folder.saved()
    before, now = processes_of(saved), processes_of(config)
    task = next((number for number, record in enumerate(ledger.tasks) if record.status == "pending"), None)
    if task is None:  # nothing is left to train
        return None
    if all(saved.get(name) == config.get(name) for name in (*PLACES, *PER_PROCESS)):
        return f"Note: --reshard: {counted(now)}, as before; nothing changes."
    last = folder.task(task) / "last.ckpt"
    step = checkpoint.load(last)["global_step"] if last.is_file() else 0
    entry = {"task": task, "step": step, "from": before, "to": now}
    if (task or step) and entry not in ledger.resharded[-1:]:
        ledger.resharded.append(entry)
        ledger.save()  # before the settings: a kill in between leaves the run to be resharded again
    folder.write(config)
    if not (task or step):
        return f"Resharded: {counted(now)} instead of {before}; nothing was trained yet."
    return f"Resharded: {described(entry)}. From here on the run is {NOT_EQUAL}."


def described(entry: Mapping[str, int]) -> str:
    """Return in words when a run has changed its processes."""
    where = f"task {entry['task']}" if not entry["step"] else f"step {entry['step']} of task {entry['task']}"
    before = f"instead of {entry['from']}" if entry["from"] != entry["to"] else "on other devices"
    return f"{counted(entry['to'])} {before} from {where} on"


def protocol(ledger: Ledger) -> dict[str, str]:
    """Return what the protocol of the results says of it; nothing if it did not happen."""
    if not ledger.resharded:
        return {}
    return {"resharded": f"{'; '.join(map(described, ledger.resharded))}: {NOT_EQUAL}"}
