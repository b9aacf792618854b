"""Every strategy with objectives of three kinds and their distillers: killed midway, and continued to equal bytes."""

import pytest

from cassle.engine.choice import choose, model_class
from cassle.errors import ConfigError
from cassle.evaluation import report
from cassle.methods import METHODS
from cassle.strategies import STRATEGIES
from tests.engine import Killed, assert_equal, kill_at_batch, outcome, run
from tests.methods import SMALL, small

#: one contrastive, one decorrelating, one with an EMA teacher
OBJECTIVES = ("simclr", "barlow_twins", "byol")
#: strategies in one run: one with a memory, others without
TOGETHER = (
    ("er+si", "simclr", None), ("ccl+ewc", "barlow_twins", None), ("kaizen+aep", "byol", "predictive"),
    ("lump+aep+ewc", "simclr", "contrastive"),
)  # fmt: skip
SIZES = {
    **SMALL, "output_dim": 8, "proj_hidden_dim": 16, "pred_hidden_dim": 16, "mem_size": 64, "replay_batch_size": 16,
    "aligner_dim": 8, "n_save": 6, "ewc_batches": 2, "extra_queue_size": 8,
}  # fmt: skip


def settings_of(method: str, distiller: str | None, strategy: str) -> dict:
    kind = model_class(method, distiller, strategy)
    sizes = {**SIZES, "mem_size": 256} if "lump" in strategy else SIZES  # one image of the past for each of a batch
    return {
        "method": method, "distiller": distiller, "strategy": strategy, "batch_size": 256, "max_epochs": 1,
        "warmup_epochs": 0, "lr": 0.1, "few_labels": 0, "linear_max_iter": 2, **small(kind, sizes),
    }  # fmt: skip


def combinations():
    for strategy in STRATEGIES:
        for method in OBJECTIVES:
            for distiller in (None, METHODS[method].auto_distiller):
                try:
                    choose({"method": method, "distiller": distiller, "strategy": strategy})
                except ConfigError:
                    continue  # refused by name, see below
                if strategy != "finetune" or distiller is None:
                    yield strategy, method, distiller
    yield from TOGETHER


@pytest.fixture(autouse=True)
def plain_picture(monkeypatch):
    """Drawing takes longer than training here; the picture has a test of its own."""
    monkeypatch.setattr(report, "heatmap_png", lambda results, title: b"a picture")


@pytest.mark.parametrize("strategy, method, distiller", list(combinations()))
def test_killed_and_continued(strategy, method, distiller, tmp_path, monkeypatch):
    settings = settings_of(method, distiller, strategy)
    run(tmp_path / "reference", **settings)
    with monkeypatch.context() as patched:
        kill_at_batch(patched, 1, 1)
        with pytest.raises(Killed):
            run(tmp_path, checkpoint_minutes=0, **settings)
    assert (tmp_path / "job" / "task1" / "last.ckpt").is_file()
    run(tmp_path, checkpoint_minutes=0, **settings)
    assert_equal(outcome(tmp_path / "job"), outcome(tmp_path / "reference" / "job"))


@pytest.mark.parametrize(
    "settings, words",
    [
        ({"strategy": "cassle-r", "distiller": "predictive", "method": "byol"}, "distils by itself"),
        ({"strategy": "lump", "method": "supcon"}, "a mixture of two images has no class"),
        ({"strategy": "aep", "memory": "fifo"}, "keeps no memory"),
        ({"strategy": "er", "memory": "herding"}, "--strategy er takes reservoir or fifo"),
        ({"strategy": "ddr"}, "unknown. Did you mean 'der'"),
        ({"strategy": "er+ddr"}, "--strategy ddr: unknown. Did you mean 'der'"),
        ({"strategy": "er+"}, "--strategy er+: a name is missing"),
        ({"strategy": "er+lump"}, "both keep a memory"),
        ({"strategy": "si+ewc"}, "both hold the weights of earlier tasks"),
        ({"strategy": "apre+aep"}, "both align what the student makes of an image"),
        ({"strategy": "cassle-r+si", "distiller": "predictive", "method": "byol"}, "distils by itself"),
    ],
)
def test_what_does_not_go_together_is_refused(settings, words):
    with pytest.raises(ConfigError) as caught:
        choose(settings)
    assert any(words in problem for problem in caught.value.problems), caught.value.problems


@pytest.mark.parametrize(
    "name, listed",
    [
        ("cla-b", "aep"), ("cla-e", "apre"), ("cla-r", "arp"), ("cassle_r", "cassle-r"), ("replay", "er"),
        ("no_strategy", "finetune"), ("CCL", "ccl"), ("SimpleReplay", "simple_replay"), ("Finetuning", "finetune"),
    ],
)  # fmt: skip
def test_published_names(name, listed):
    assert choose({"strategy": name}).strategy == listed


def test_strategies_together_add_all_their_terms_and_have_one_name():
    assert choose({"strategy": "si + replay"}).strategy == choose({"strategy": "er+finetune+si"}).strategy == "er+si"
    assert choose({"strategy": "er+er"}).strategy == "er"
    kind = STRATEGIES["ewc+lump"]
    assert kind.memories == STRATEGIES["lump"].memories and kind.refuses(METHODS["supcon"], None)
