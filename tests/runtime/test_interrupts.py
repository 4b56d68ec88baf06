import os
import signal

import pytest

from pipeline.runtime.distributed import ALONE, Ranks
from pipeline.runtime.interrupts import Interrupted, StopSignal


@pytest.fixture
def stop():
    before = {signum: signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM)}
    stop = StopSignal()
    stop.install()
    yield stop
    for signum, handler in before.items():
        signal.signal(signum, handler)


def send(signum: int) -> None:
    os.kill(os.getpid(), signum)


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_outside_a_deferred_block_a_signal_is_obeyed_at_once(stop, signum, code):
    with pytest.raises(Interrupted, match=signum.name) as caught:
        send(signum)
    assert caught.value.exit_code == code
    assert not isinstance(caught.value, Exception)


def test_inside_it_waits_for_the_next_check(stop):
    done = []
    with pytest.raises(Interrupted, match="SIGTERM"), stop.deferred():
        assert not stop.requested
        stop.check()
        send(signal.SIGTERM)
        done.append("still working")
        assert stop.requested
        stop.check()
        done.append("too far")
    assert done == ["still working"]


def test_a_signal_that_was_never_asked_for_is_raised_at_the_end_of_the_block(stop):
    done = []
    with pytest.raises(Interrupted), stop.deferred():
        send(signal.SIGINT)
        done.append("to the end")
    assert done == ["to the end"]


def test_a_second_signal_is_obeyed_at_once(stop):
    done = []
    with pytest.raises(Interrupted, match="SIGTERM"), stop.deferred():
        send(signal.SIGINT)
        done.append("first")
        send(signal.SIGTERM)
        done.append("second")
    assert done == ["first"]


def test_an_error_inside_a_deferred_block_comes_through(stop):
    with pytest.raises(ZeroDivisionError), stop.deferred():
        send(signal.SIGINT)
        raise ZeroDivisionError
    with pytest.raises(Interrupted):
        stop.check()


def test_without_a_signal_nothing_happens(stop):
    with stop.deferred():
        stop.check()
    stop.check()
    assert not stop.requested


def test_a_signal_to_another_process_waits_here_as_well(stop, monkeypatch):
    several = Ranks(0, 2, 0, 2)
    with pytest.raises(Interrupted, match="SIGTERM"), stop.deferred():
        assert not stop.share(ALONE)
        monkeypatch.setattr(Ranks, "largest", lambda ranks, number: number)
        assert not stop.share(several)
        monkeypatch.setattr(Ranks, "largest", lambda ranks, number: max(number, signal.SIGTERM))
        assert stop.share(several)
        assert stop.requested


def test_released_signals_end_the_process_by_themselves(stop):
    stop.release()
    assert [signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM)] == [signal.SIG_DFL] * 2
