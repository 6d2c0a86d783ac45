"""Bytes of files, gzip-compressed or not, in bounded steps and up to the last checksum.

What is wrong with the content is a ValueError with the reason alone: the caller knows the file.
"""

import os
import stat
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

_STEP = 1 << 20
_GZIP = b"\x1f\x8b"
_GZIP_WITH_CHECKS = 31  # zlib's window bits for a gzip header and trailer, which it then compares
_MOST_PACKED = 1032  # deflate packs at most so many bytes into one


def read_start(path: Path, length: int) -> bytes:
    """The first bytes of a file, uncompressed; fewer where it ends before.

    Raises:
        OSError: If it cannot be read.
        ValueError: If it is no gzip stream as its name says; checksums are not reached.
    """
    start = b""
    for step in _steps(path, length):
        start += step
        if len(start) >= length:
            break
    return start[:length]


def read_small(path: Path, most: int) -> bytes:
    """All bytes of a small file, uncompressed, with its checksums compared.

    Raises:
        OSError: If it cannot be read.
        ValueError: If it is damaged, or holds more than `most` bytes.
    """
    whole = b""
    for step in _steps(path, _STEP):
        whole += step
        if len(whole) > most:
            raise ValueError(f"holds more than {most:,} bytes, too many for a header")
    return whole


def require_length(path: Path, declared: int) -> None:
    """Compares what a header declares with what the file can hold; reads nothing.

    Args:
        path: The file.
        declared: Bytes, uncompressed.

    Raises:
        OSError: If there is no such file.
        ValueError: If the file is smaller, or not of this size where it is not compressed.
    """
    size = path.stat().st_size
    most = size * _MOST_PACKED if is_packed(path) else size
    if most < declared:
        raise ValueError(f"is cut short: {_compared(size, declared, is_packed(path))}")
    if not is_packed(path) and size > declared:
        raise ValueError(f"holds more than its header tells of: {_compared(size, declared)}")


def read_end(path: Path, offset: int, length: int) -> npt.NDArray[np.uint8]:
    """The last bytes of a file, uncompressed, with its checksums compared.

    Args:
        path: The file.
        offset: Bytes before them.
        length: Their number; the file must end with them.

    Raises:
        OSError: If it cannot be read.
        ValueError: If it is damaged, or holds more or fewer bytes.
    """
    require_length(path, offset + length)
    if not is_packed(path):
        found = np.fromfile(path, np.uint8, length, offset=offset)
        if found.size != length:
            raise ValueError("became shorter while it was read")
        return found
    found = np.empty(length, np.uint8)  # the system gives memory as it is filled
    end = 0
    for step in _steps(path, _STEP):
        start, end = end, end + len(step)
        if end > offset + length:
            declared = f"{offset + length:,} bytes (uncompressed)"
            raise ValueError(f"holds more than the {declared} that its header declares")
        if end > offset:
            own = step[max(offset - start, 0) :]
            found[end - len(own) - offset : end - offset] = np.frombuffer(own, np.uint8)
    if end < offset + length:
        raise ValueError(f"is cut short: {_compared(end, offset + length)}")
    return found


def is_packed(path: Path) -> bool:
    """Whether a file is gzip-compressed by its name."""
    return path.name.lower().endswith(".gz")


def _compared(size: int, declared: int, packed: bool = False) -> str:
    how = " compressed" if packed else ""
    return f"{size:,}{how} bytes, where its header declares {declared:,}"


def _steps(path: Path, step: int) -> Iterator[bytes]:
    with open(path, "rb", opener=_without_waiting) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise ValueError("is no regular file")
        if is_packed(path):
            yield from _unpacked(file, step)
            return
        while data := file.read(step):
            if data.startswith(_GZIP) and file.tell() == len(data):
                raise ValueError("is gzip-compressed, and its name does not say so: add .gz to it")
            yield data


def _without_waiting(path: str, flags: int) -> int:
    """Opens a named pipe at once too, which would wait for somebody to write into it."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _unpacked(file: BinaryIO, step: int) -> Iterator[bytes]:
    """The bytes of all members of a gzip file (RFC 1952); zlib compares CRC and length of each."""
    packed = file.read(step)
    if not packed.startswith(_GZIP):
        raise ValueError("is not gzip-compressed, as its name says: drop .gz where that is right")
    while packed:
        member = zlib.decompressobj(_GZIP_WITH_CHECKS)
        while not member.eof:
            packed = packed or file.read(step)
            if not packed:
                raise ValueError("is cut short: its gzip stream does not end")
            try:
                yield member.decompress(packed, step)
            except zlib.error as error:
                raise ValueError(f"is damaged: its gzip stream does not hold ({error})") from error
            packed = member.unconsumed_tail
        packed = _behind(member.unused_data, file)


def _behind(rest: bytes, file: BinaryIO) -> bytes:
    """What follows a member: another one, or nothing; zeros only pad."""
    rest = rest.lstrip(b"\0")
    while not rest and (more := file.read(_STEP)):
        rest = more.lstrip(b"\0")
    if not _GZIP.startswith(rest[:2]):
        raise ValueError("has other bytes behind its gzip stream; is it two files in one?")
    return rest
