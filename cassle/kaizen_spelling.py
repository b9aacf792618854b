"""Kaizen's words of a command line in today's spelling."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cassle.errors import ConfigError

#: Kaizen's names of a setting
RENAMED = {
    "global_seed": "seed",
    "online_eval_classifier_lr": "classifier_lr",
    "online_evaluation_training_data_source": "online_eval_data",
    "replay_memory_bank_size": "mem_size",
    "classifier_distill_lamb": "soft_label_lamb",
    "classifier_distill_proj_hidden_dim": "soft_label_hidden_dim",
}
#: flags that only Kaizen's scripts have; there --classifier_lr is the rate of Kaizen's classifier
KAIZEN = {"distiller_library", "online_eval_classifier_lr", "classifier_training", "replay", "distiller_classifier"}
#: settings whose defaults are others in Kaizen's parser than here, where they are those of its scripts
DEFAULTS = {"head_lr": 0.3, "soft_label_lamb": 1.0, "soft_label_predictor": True, "replay_proportion": 1.0}
#: what Kaizen's SimCLR script sets although its SimCLR has no use for it
UNUSED_BY_SIMCLR = ("pred_hidden_dim", "base_tau_momentum", "final_tau_momentum", "momentum_classifier")
#: what a script of Kaizen's may set of a part that it does not switch on
OF_THE_CLASSIFIER = (
    "classifier_stop_gradient", "classifier_loss_weight", "classifier_layers", "head_lr", "soft_label",
    "soft_label_lamb", "soft_label_predictor", "soft_label_hidden_dim",
)  # fmt: skip
OF_THE_REPLAY = ("replay_proportion", "mem_size", "replay_batch_size")
PREFIX = "feature_extractor_"
NO_PREDICTOR = "distill_no_predictior"  # upstream's spelling


def asked(value: Any) -> bool:
    """Return whether a flag was given, and not only to turn something off."""
    return str(value).lower() not in ("none", "false", "0", "0.0")


def translate(values: dict[str, Any], problems: list[str], note: Callable[[str], object]) -> None:
    """Bring Kaizen's names to today's, in place.

    Where no ``--strategy`` is named, its classifier and its replay are those of ``--strategy kaizen``, with the
    defaults of upstream's parser.

    Args:
        values: settings by name.
        problems: takes one sentence for each wish that cannot be had.
        note: takes a line for each flag that is not needed.

    Raises:
        ConfigError: a setting is given under two names.
    """
    upstream = bool(KAIZEN & values.keys()) and "strategy" not in values
    if upstream and "classifier_lr" in values:
        values["head_lr"] = values.pop("classifier_lr")
    if upstream and values.get("method") == "simclr":
        _drop(values, UNUSED_BY_SIMCLR, "simclr has none", note)
    if "online_evaluation" in values and not asked(values.pop("online_evaluation")):
        values["disable_online_eval"] = True
    _read_soft_labels(values, problems)
    _rename(values)
    _choose_strategy(values, upstream, note)


def _drop(values: dict[str, Any], names: tuple[str, ...], reason: str, note: Callable[[str], object]) -> None:
    for name in names:
        if values.pop(name, None) is not None:
            note(f"Note: --{name} is not used: {reason}.")


def _read_soft_labels(values: dict[str, Any], problems: list[str]) -> None:
    """Read which distillation the classifier gets; only soft labels can be had."""
    if "distiller_classifier" in values:
        name = values.pop("distiller_classifier")
        values["soft_label"] = asked(name)
        if asked(name) and name != "soft_label":
            problems.append(f"--distiller_classifier {name}: the classifier's distiller is soft_label; give that one.")
    without = values.pop(f"classifier_{NO_PREDICTOR}", None)
    if without is not None:
        values["soft_label_predictor"] = not asked(without)
    for name in [name for name in values if name.startswith("classifier_distill_") and name not in RENAMED]:
        del values[name]
        problems.append(f"--{name}: soft labels have none; for a temperature give --soft_label_temperature.")


def _rename(values: dict[str, Any]) -> None:
    feature = {
        name: name.removeprefix(PREFIX)
        for name in values
        if name.startswith(f"{PREFIX}distill_") and name != PREFIX + NO_PREDICTOR
    }
    renamed = {name: new for name, new in {**RENAMED, **feature}.items() if name in values}
    if twice := [
        f"--{name} and --{new}: are the same flag; give one." for name, new in renamed.items() if new in values
    ]:
        raise ConfigError(twice)
    for name, new in renamed.items():
        values[new] = values.pop(name)


def _choose_strategy(values: dict[str, Any], upstream: bool, note: Callable[[str], object]) -> None:
    """Take ``--classifier_training`` and ``--replay`` for what they are: the two parts of ``--strategy kaizen``."""
    replays = values.pop("replay", None)
    if upstream:
        trains = asked(values.pop("classifier_training", None))
        if not trains:
            _drop(values, OF_THE_CLASSIFIER, "no classifier is trained (--classifier_training)", note)
        if not asked(replays):
            _drop(values, OF_THE_REPLAY, "there is no replay (--replay)", note)
        if not trains and not asked(replays):
            return
        values |= {"strategy": "kaizen", "classifier_training": trains}
        missing = {name: value for name, value in DEFAULTS.items() if name not in values}
        parts = [*(OF_THE_CLASSIFIER if trains else ()), *(OF_THE_REPLAY if asked(replays) else ())]
        values |= {name: value for name, value in missing.items() if name in parts}
        if trains:
            values.setdefault("soft_label", False)  # without --distiller_classifier
    if (upstream or replays is not None) and not asked(replays):
        values["replay_batch_size"] = 0
