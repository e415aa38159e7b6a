"""Loaded by Python itself where `ops.stack.clock` puts this folder on PYTHONPATH: mends `time.sleep`.

libfaketime 0.9.10 (Debian 12) breaks clock_nanosleep(2) where the monotonic clock is left alone, and time.sleep is
built on it since Python 3.11 (https://github.com/wolfcw/libfaketime/issues/426).
"""

import select
import time
from typing import SupportsIndex


def _sleep(seconds: float | SupportsIndex, /) -> None:
    select.select((), (), (), float(seconds))


time.sleep = _sleep
