"""The local engine: every piece of work once, errors as they are, and no loop that is left waits for ever."""

import threading
import time

import pytest

from curate.engines import LocalEngine


@pytest.mark.parametrize("workers", [1, 3])
def test_results_come_in_order_or_as_they_are_done_and_all(workers):
    with LocalEngine(workers) as engine:
        assert engine.map(lambda i: i * i, range(100)) == [i * i for i in range(100)]
        assert dict(engine.each(lambda i: -i, range(100))) == {i: -i for i in range(100)}
        assert list(engine.pipeline(abs, range(-50, 0))) == list(range(50, 0, -1))


def test_an_error_is_raised_as_it_is_and_stops_the_rest():
    begun = []

    def work(i: int) -> None:
        begun.append(i)
        if i == 3:
            raise KeyError("three")
        time.sleep(0.001)

    with LocalEngine(2) as engine, pytest.raises(KeyError, match="three"):
        for _ in engine.each(work, range(1_000)):
            pass
    assert len(begun) < 10


@pytest.mark.parametrize("loop", ["ordered", "each", "pipeline"])
def test_a_loop_that_is_left_after_the_engine_has_ended_ends_too(loop):
    with LocalEngine(1) as engine:
        results = getattr(engine, loop)(lambda i: time.sleep(0.01), range(50))
        next(results)
    thread = threading.Thread(target=results.close, daemon=True)
    thread.start()
    thread.join(20)
    assert not thread.is_alive()
