"""A lock is held by one process, is not inherited by forked ones, and goes with its process."""

import multiprocessing
import os
import signal
import time

import pytest

from cassle.locks import held


def hold(path, ready):
    with held(path, wait=False):
        ready.set()
        time.sleep(60)


def sleeper(path, numbers):
    """Hold the lock, fork a process that outlives this one, and tell its number."""
    with held(path, wait=False):
        child = os.fork()
        if child == 0:
            time.sleep(60)
            os._exit(0)
        numbers.send(child)
        time.sleep(60)


@pytest.fixture
def fork():
    return multiprocessing.get_context("fork")


def test_a_second_holder_is_refused_with_the_number_of_the_first(tmp_path, fork):
    path, ready = tmp_path / "lock", fork.Event()
    process = fork.Process(target=hold, args=(path, ready))
    process.start()
    assert ready.wait(20)
    with pytest.raises(BlockingIOError, match=f"^{process.pid}$"), held(path, wait=False):
        pass
    process.kill()
    process.join()
    with held(path, wait=False):
        assert path.read_text() == str(os.getpid())
    with held(path, wait=True):
        pass


def test_a_killed_holder_lets_go_though_its_children_live(tmp_path, fork):
    path = tmp_path / "lock"
    mine, theirs = fork.Pipe()
    process = fork.Process(target=sleeper, args=(path, theirs))
    process.start()
    child = mine.recv()
    try:
        process.kill()
        process.join()
        os.kill(child, 0)  # it is alive
        with held(path, wait=False):
            assert path.read_text() == str(os.getpid())
    finally:
        os.kill(child, signal.SIGKILL)
