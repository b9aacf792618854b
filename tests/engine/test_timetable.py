"""When a stream is evaluated, and which of its splits have begun and ended then."""

import pytest

from cassle.data.stream_settings import StreamData
from cassle.engine.timetable import Timetable
from cassle.errors import ConfigError


def timetable(length=1000, bounds=(), whole=10, num_splits=4, **settings):
    return Timetable(StreamData(**settings), length=length, bounds=bounds, whole=whole, num_splits=num_splits)


def test_steps_are_as_many_as_k_epochs_have():
    made = timetable(1009, num_updates=3, stream="iid")
    assert made.num_batches == 100 and made.total_steps == 300 == 1009 // 10 * 3
    assert made.evaluations == [25, 50, 75, 100] and made.begun(25) == 4 and made.ended(25) == []


def test_splits():
    made = timetable(bounds=(200, 400, 604, 1000), stream="class")
    assert made.evaluations == [20, 25, 40, 50, 60, 75, 100]
    assert [made.begun(b) for b in made.evaluations] == [1, 2, 2, 3, 3, 4, 4]
    assert [made.ended(b) for b in made.evaluations] == [[0], [], [1], [], [2], [], [3]]
    assert timetable(bounds=(200, 1000), stream="class", eval_at=[30]).evaluations == [30, 100]


def test_a_warm_up_shifts_the_ends_of_splits():
    made = timetable(bounds=(200, 1000), stream="class", num_splits=2, memory_warm_up=95)
    assert made.warm_up == 10 and made.ended(10) == [0] and made.begun(11) == 2 and made.begun(10) == 1


def test_several_passes_have_no_end_of_a_split():
    made = timetable(bounds=(250, 500, 750, 1000), num_splits=2, stream="class", stream_epochs=2)
    assert made.evaluations == [25, 50, 75, 100] and made.ended(25) == [] and made.begun(50) == 2


@pytest.mark.parametrize(
    "settings, words",
    [
        ({"length": None}, "--stream_length: missing; this stream has no end"),
        ({"length": 9}, "--batch_size: the stream has 9 samples, which is not one batch of 10"),
        ({"stream_length": 5}, "or a larger --stream_length"),
        ({"memory_warm_up": 995}, "--memory_warm_up 995: the stream has 1000 samples, which leaves no batch"),
    ],
)
def test_what_is_too_short(settings, words):
    with pytest.raises(ConfigError, match=words):
        timetable(**settings)
