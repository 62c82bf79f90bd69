"""How the C library handles freed memory."""

import ctypes
import sys


def keep_freed_memory() -> None:
    """Makes glibc keep freed memory for the next allocation, in the whole process.

    By default glibc may return it to the system. An update of the Nature CNN allocates and frees
    12 MB, and each of those pages would then be mapped anew at every update: trainings of Breakout
    take 1.23 times as long.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:  # musl has none
        trim_threshold, mmap_threshold = -1, -3  # glibc's names of the two, as in malloc.h
        mallopt(trim_threshold, 2**30)
        mallopt(mmap_threshold, 2**25)  # the most it accepts; larger arrays grow as they fill
