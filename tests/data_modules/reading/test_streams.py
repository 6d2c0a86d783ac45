"""A gzip stream is read to its end, a file holds what its header declares, memory is asked for."""

import gzip
import os
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import nibabel
import numpy as np
import psutil
import pytest

from data_modules.errors import CorruptImageError
from data_modules.reading.nifti import read_grid, read_volume
from data_modules.reading.streams import read_end, read_small, read_start


def header_of(shape: tuple[int, ...], dtype: type) -> bytes:
    """The 352 bytes in front of the voxels."""
    header = nibabel.Nifti1Header()
    header.set_data_shape(shape)
    header.set_data_dtype(dtype)
    header.set_sform(np.eye(4), 1)
    header["pixdim"][:4] = 1
    header["vox_offset"], header["scl_slope"], header["scl_inter"] = 352, 1, 0
    return bytes(header.binaryblock) + bytes(4)


@pytest.fixture
def whole() -> bytes:
    """A volume of noise, uncompressed."""
    noise = np.random.default_rng(0).integers(0, 99, (12, 11, 10)).astype(np.int16)
    return header_of((12, 11, 10), np.int16) + noise.tobytes(order="F")


@pytest.mark.parametrize("pack", [gzip.compress, lambda data: named(data)])
def test_no_flipped_bit_gives_other_voxels(
    pack: Callable[[bytes], bytes], whole: bytes, tmp_path: Path
) -> None:
    path = tmp_path / "a.nii.gz"
    path.write_bytes(pack(whole))
    packed, truth, grid = path.read_bytes(), read_volume(path), read_grid(path)
    ends = [*range(80), *range(len(packed) * 8 - 64, len(packed) * 8)]
    bits = [*ends, *np.random.default_rng(1).choice(len(packed) * 8, 100, replace=False).tolist()]
    refused = 0
    for bit in bits:
        spoilt = bytearray(packed)
        spoilt[bit // 8] ^= 1 << bit % 8
        path.write_bytes(spoilt)
        try:
            volume, own = read_volume(path), read_grid(path)
        except CorruptImageError:
            refused += 1
            continue
        assert np.array_equal(volume, truth), bit
        assert own == grid, bit
    assert refused >= 160  # the time of a member matters to nobody


def named(data: bytes) -> bytes:
    """A member with a name, a comment and a checksum of its own header."""
    head = b"\x1f\x8b\x08\x1a" + bytes(6) + b"brain.nii\0" + b"a comment\0"
    head += (zlib.crc32(head) & 0xFFFF).to_bytes(2, "little")
    body = zlib.compressobj(wbits=-15)
    ends = zlib.crc32(data).to_bytes(4, "little") + len(data).to_bytes(4, "little")
    return head + body.compress(data) + body.flush() + ends


def test_members_of_one_stream_belong_together(whole: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.nii.gz"
    path.write_bytes(gzip.compress(whole))
    truth = read_volume(path)
    for cut in (100, 352, 1000):
        path.write_bytes(gzip.compress(whole[:cut]) + gzip.compress(whole[cut:]))
        assert np.array_equal(read_volume(path), truth)
    path.write_bytes(gzip.compress(whole) + bytes(2_000_000))  # padding
    assert np.array_equal(read_volume(path), truth)


def cut(data: bytes) -> bytes:
    return data[:-1]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (cut, "gzip stream does not end"),
        (lambda data: data[: len(data) // 2], "gzip stream does not end"),
        (lambda data: data + b"x", "other bytes behind its gzip stream"),
        (lambda data: data + bytes(9) + b"\x1fx", "other bytes behind its gzip stream"),
        (lambda data: data + data, "holds more than the 2,992 bytes"),
        (lambda data: data + gzip.compress(b"x"), "holds more than the 2,992 bytes"),
        (lambda data: data + gzip.compress(b"")[:-2], "gzip stream does not end"),
        (gzip.decompress, "is not gzip-compressed"),
        (lambda data: gzip.compress(gzip.decompress(data)[:-2]), "is cut short: 2,990 bytes"),
    ],
)
def test_what_a_stream_must_not_be(
    spoil: Callable[[bytes], bytes], message: str, whole: bytes, tmp_path: Path
) -> None:
    path = tmp_path / "a.nii.gz"
    path.write_bytes(spoil(gzip.compress(whole)))
    with pytest.raises(CorruptImageError, match=rf"a\.nii\.gz: .*{message}"):
        read_volume(path)


def test_a_plain_file_has_the_size_that_its_header_declares(whole: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.nii"
    path.write_bytes(whole[:-1])
    with pytest.raises(CorruptImageError, match=r"cut short: 2,991 bytes, .* declares 2,992"):
        read_grid(path)
    path.write_bytes(whole + b"\0")
    with pytest.raises(CorruptImageError, match="more than its header tells of: 2,993 bytes"):
        read_grid(path)
    path.write_bytes(gzip.compress(whole))
    with pytest.raises(CorruptImageError, match=r"name does not say so: add \.gz"):
        read_grid(path)


def refusal(path: Path) -> tuple[str, float]:
    """What is said of a file, and the most memory that it took, in MB."""
    tracemalloc.start()
    try:
        with pytest.raises(CorruptImageError) as error:
            read_volume(path)
        return str(error.value), tracemalloc.get_traced_memory()[1] / 1e6
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", ["a.nii.gz", "a.nii"])
def test_a_few_kilobytes_that_declare_gigabytes(name: str, tmp_path: Path) -> None:
    data = header_of((1300, 1300, 1300), np.int16) + bytes(1 << 20)
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith("gz") else data)
    text, most = refusal(tmp_path / name)
    assert f"{name}: is cut short" in text
    assert "declares 4,394,000,352" in text
    assert most < 4


def test_a_stream_that_unpacks_to_more_than_its_header_declares(tmp_path: Path) -> None:
    path = tmp_path / "a.nii.gz"
    path.write_bytes(gzip.compress(header_of((9, 9, 9), np.int16) + bytes(64 << 20), 1))
    read_volume_of, most = refusal(path)
    assert "more than the 1,810 bytes" in read_volume_of
    assert most < 8


def test_more_than_the_memory_that_is_free(
    whole: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.nii.gz"
    path.write_bytes(gzip.compress(whole))
    voxels = 12 * 11 * 10
    needed = voxels * (2 + 4)  # as stored, and as float32
    free = SimpleNamespace(available=needed - 1)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: free)
    monkeypatch.setattr("data_modules.reading.memory._ALWAYS_THERE", 0)
    with pytest.raises(CorruptImageError, match=r"12x11x10 int16 voxels, .* GiB .* are free"):
        read_volume(path)
    free.available = 1 << 30
    assert read_volume(path).size == voxels


def test_a_header_of_a_pair_is_small(tmp_path: Path) -> None:
    path = tmp_path / "a.hdr.gz"
    path.write_bytes(gzip.compress(bytes(2000)))
    assert read_small(path, 2000) == bytes(2000)
    with pytest.raises(ValueError, match="more than 1,999 bytes"):
        read_small(path, 1999)
    path.write_bytes(path.read_bytes()[:-1] + b"\1")
    with pytest.raises(ValueError, match="does not hold"):
        read_small(path, 2000)


@pytest.mark.parametrize("name", ["a.bin", "a.gz"])
def test_start_and_end(name: str, tmp_path: Path) -> None:
    data = np.random.default_rng(0).bytes(3_000_001)
    path = tmp_path / name
    path.write_bytes(gzip.compress(data) if name == "a.gz" else data)
    assert read_start(path, 540) == data[:540]
    assert read_start(path, 4_000_000) == data
    for offset in (0, 1, 1 << 20, 2_999_999):
        assert read_end(path, offset, len(data) - offset).tobytes() == data[offset:]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_named_pipe_is_not_waited_for(tmp_path: Path) -> None:
    for name in ("a.nii", "a.nii.gz"):
        os.mkfifo(tmp_path / name)
        with pytest.raises(CorruptImageError, match="no regular file"):
            read_grid(tmp_path / name)
