"""What the C library does with memory that is freed."""

import ctypes
import platform

# Of glibc's malloc.h.
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4


def keep_freed() -> bool:
    """Lets the process keep what it frees, for the next step or batch, until it ends.

    glibc gets each block of 32 MB or more from the system and gives it back when it is freed. A
    step on the CPU frees hundreds of MB of activations and gradients, and the system would have to
    clear every page of them again.

    Returns False, and changes nothing, where the C library is not glibc.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return bool(mallopt(_MMAP_MAX, 0) and mallopt(_TRIM_THRESHOLD, -1))
