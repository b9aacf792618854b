"""The end of a task: where its training is, also for a run that continues after the last step."""

import pytest

from cassle.methods.base import SSLMethod
from tests.engine import BYOL, STEPS, TINY, Killed, run


def test_a_task_ends_at_the_end_of_its_plan_whenever_it_was_continued(tmp_path, monkeypatch):
    ends = []

    def end_task(model):
        ends.append((model.current_task, model.progress.step, model.progress.epoch))
        if len(ends) == 2:
            raise Killed

    monkeypatch.setattr(SSLMethod, "end_task", end_task)
    steps, epochs = STEPS * TINY["max_epochs"], TINY["max_epochs"]
    with pytest.raises(Killed):
        run(tmp_path, **BYOL)
    run(tmp_path, **BYOL)  # nothing is left to train of task 1
    assert ends == [(0, steps, epochs), (1, steps, epochs), (1, steps, epochs)]
