"""Peak memory, as the run loop reads it."""

from wsopt.memory import peak_bytes, reset_peak

__all__ = ["peak_bytes", "reset_peak"]
