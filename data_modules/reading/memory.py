"""Whether what a file declares fits into the memory that is free."""

import psutil


def require_memory(needed: int, what: str) -> None:
    """Compares a need with what is free, before any of it is taken.

    Args:
        needed: Bytes.
        what: What declares them, for the error.

    Raises:
        ValueError: If less is free; the reason alone, since the caller knows the file.
    """
    free = psutil.virtual_memory().available
    if needed > free:
        raise ValueError(
            f"declares {what}, which need {needed / 1e9:.3g} GB of memory to be read; "
            f"{free / 1e9:.3g} GB are free"
        )
