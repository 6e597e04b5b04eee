"""Ctrl-C and SIGTERM: first a request, then the end."""

from __future__ import annotations

import signal
import threading

import pytest

from wsopt.cli._signals import StopSignals

MESSAGE = "\nstopping after this trial; press Ctrl-C again to stop at once\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_asks_and_a_second_ctrl_c_stops(
    number: signal.Signals, capfd: pytest.CaptureFixture[str]
) -> None:
    with StopSignals() as signals:
        assert not signals.should_stop()
        signal.raise_signal(number)
        assert signals.should_stop()
        assert capfd.readouterr().err == MESSAGE
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        assert capfd.readouterr().err == ""


def test_a_second_sigterm_changes_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    with StopSignals() as signals:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGTERM)
        assert signals.should_stop()
    assert capfd.readouterr().err == MESSAGE


def test_handlers_are_put_back() -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with StopSignals():
        assert signal.getsignal(signal.SIGINT) != before[0]
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_it_does_nothing_outside_the_main_thread() -> None:
    seen: list[bool] = []

    def work() -> None:
        with StopSignals() as signals:
            seen.append(signals.should_stop())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [False]
