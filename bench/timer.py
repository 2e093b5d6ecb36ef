"""A timer that `epoll` can wait for: its own timeout is rounded up to whole milliseconds, a timer's is not."""

import ctypes
import os
import time
from typing import Final

NS: Final = 1_000_000_000
_TFD_NONBLOCK: Final = os.O_NONBLOCK
_TFD_CLOEXEC: Final = os.O_CLOEXEC
_TFD_TIMER_ABSTIME: Final = 1


class _TimerSpec(ctypes.Structure):
    """`struct itimerspec`: the interval, which is none here, and the time."""

    _fields_ = (
        ("interval_s", ctypes.c_long),
        ("interval_ns", ctypes.c_long),
        ("value_s", ctypes.c_long),
        ("value_ns", ctypes.c_long),
    )


class Timer:
    """Readable from the time on that was set last; `timerfd` of Linux."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self.fileno = self._libc.timerfd_create(time.CLOCK_MONOTONIC, _TFD_NONBLOCK | _TFD_CLOEXEC)
        if self.fileno < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")

    def ring_at(self, at_ns: int) -> None:
        """Set the time, of the monotonic clock; what was set before is forgotten."""
        spec = _TimerSpec(0, 0, *divmod(max(at_ns, 1), NS))
        if self._libc.timerfd_settime(self.fileno, _TFD_TIMER_ABSTIME, ctypes.byref(spec), None) < 0:
            raise OSError(ctypes.get_errno(), "timerfd_settime")

    def close(self) -> None:
        os.close(self.fileno)
