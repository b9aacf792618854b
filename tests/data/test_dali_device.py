"""Where DALI decodes, asked for where nothing is decoded by DALI: refused, or said."""

import pytest
import torch

from cassle.data.engines import choose
from cassle.data.module import TaskData
from cassle.engine.folder import ExperimentFolder
from cassle.engine.plan import Plan
from cassle.errors import ConfigError

CPU = torch.device("cpu")
GPU_MEANT = {"engine": "auto", "dali_device": "gpu"}


@pytest.mark.parametrize("engine", ["resident", "workers"])
def test_with_another_engine_it_is_refused(engine):
    with pytest.raises(ConfigError) as caught:
        TaskData(engine=engine, dali_device="gpu")  # the default, but said
    (problem,) = caught.value.problems
    assert problem.startswith("--dali_device gpu: says where DALI decodes, and --engine " + engine)
    assert problem.endswith("leave --dali_device out, or give --engine dali.")
    assert TaskData(engine=engine).dali_device == "gpu"


def test_where_auto_takes_another_engine_the_line_says_so(image_tree, monkeypatch):
    monkeypatch.setattr("cassle.data.engines.has_dali", lambda: False)
    files = {"dataset": "custom", "data_dir": image_tree(), "num_tasks": 2}
    asked = TaskData(**files, dali_device="cpu")
    for room, engine in ((10**9, "resident"), (1, "workers")):
        line = choose(asked, 8, CPU, room).line
        assert line.startswith(f"Engine: {engine}; the data ")
        assert line.endswith(". --dali_device cpu is not used: to have DALI decode, give --engine dali.")
        assert "dali" not in choose(TaskData(**files), 8, CPU, room).line
    begun = choose(asked, 8, CPU, 1, begun="workers").line  # no other engine may be given then
    assert begun == "Engine: workers; as this experiment began. --dali_device cpu is not used: leave it out."
    assert choose(TaskData(dali_device="cpu"), 8, CPU, 10**9).line.endswith("is not used: leave it out.")


def test_dali_itself_takes_it(image_tree, monkeypatch):
    monkeypatch.setattr("cassle.data.engines.has_dali", lambda: True)
    data = TaskData(dataset="custom", data_dir=image_tree(), num_tasks=2, engine="dali", dali_device="cpu")
    assert choose(data, 8, CPU, 1).line == "Engine: dali; asked for."
    data = TaskData(dataset="custom", data_dir=image_tree(), num_tasks=2, engine="dali")
    with pytest.raises(ConfigError, match="--dali_device gpu: the training runs on the CPU"):
        choose(data, 8, CPU, 1)


def test_a_stream_refuses_it(tmp_path):
    with pytest.raises(ConfigError, match="--dali_device cpu: is for --engine dali, which no stream has; leave it out"):
        Plan({"dataset": "frames", "data_dir": tmp_path, "dali_device": "cpu", "backbone": "tiny"})


@pytest.mark.parametrize("begun", [None, "dali", "resident"])
def test_said_or_not_it_is_the_same_run(begun, tmp_path):
    """An experiment of earlier versions has the default in its configuration."""
    folder = ExperimentFolder(tmp_path)
    folder.claim(GPU_MEANT)
    if begun:
        folder.keep({"engine": begun})
    assert folder.claim({**GPU_MEANT, "dali_device": None}) is True
    if begun == "resident":
        assert folder.claim({**GPU_MEANT, "dali_device": "cpu"}) is True
    else:
        with pytest.raises(ConfigError, match="--dali_device: gpu there, cpu now"):
            folder.claim({**GPU_MEANT, "dali_device": "cpu"})
