"""Whether the memory that a header asks for is there, before it is taken."""

import psutil

_ALWAYS_THERE = 2**26  # bytes; asking the system takes longer than reading a small file


def lacking_memory(needed: int) -> str | None:
    """Why so many bytes cannot be had; None where they can.

    Args:
        needed: Bytes.
    """
    if needed <= _ALWAYS_THERE:
        return None
    free = psutil.virtual_memory().available
    if needed <= free:
        return None
    return (
        f"takes {needed / 2**30:.1f} GiB of memory, but {free / 2**30:.1f} GiB are free; scale it "
        "down, cut it into parts, or use a machine with more memory"
    )
