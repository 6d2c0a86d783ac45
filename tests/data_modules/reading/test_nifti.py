"""NIfTI is read by its header where that holds, and refused by the field where it does not."""

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import numpy.typing as npt
import pytest

from data_modules.errors import CorruptImageError
from data_modules.reading.grids import Grid
from data_modules.reading.nifti import files_of, read_grid, read_header, read_stored, read_volume
from data_modules.reading.registration import _read

Spoil = Callable[[Any], object]

SHAPE = (7, 6, 5)
# First axis to the left, second to the front, third up; turned about the first.
MM = np.array([[-0.9, 0, 0, 11], [0, 1.2, -0.5, -7], [0, 0.3, 2.0, 3], [0, 0, 0, 1]])


def voxels(dtype: Any = np.int16) -> Any:
    return np.arange(np.prod(SHAPE)).reshape(SHAPE).astype(dtype)


def fields(nifti2: bool = False, *, pair: bool = False, big: bool = False) -> Any:
    """A header of `SHAPE`, int16 and `MM` that holds."""
    one = nibabel.Nifti2Header if nifti2 else nibabel.Nifti1Header
    two = nibabel.nifti2.Nifti2PairHeader if nifti2 else nibabel.nifti1.Nifti1PairHeader
    kind: Any = two if pair else one
    header = kind(endianness=">" if big else "<")
    header.set_data_shape(SHAPE)
    header.set_data_dtype(np.int16)
    header.set_xyzt_units("mm")
    header.set_qform(MM, 1)
    header.set_sform(MM, 1)
    header["scl_slope"], header["scl_inter"] = 1, 0
    header["vox_offset"] = 0 if pair else (544 if nifti2 else 352)
    return header


def put(path: Path, data: bytes) -> Path:
    """Writes bytes, as a gzip stream where the name says so."""
    import gzip

    path.write_bytes(gzip.compress(data) if path.name.endswith(".gz") else data)
    return path


def save(path: Path, header: Any, stored: Any = None) -> Path:
    """A file, or a pair, of a header and voxels."""
    values = voxels() if stored is None else stored
    if stored is not None:
        header.set_data_dtype(values.dtype.newbyteorder("="))
    body = values.astype(values.dtype.newbyteorder(header.endianness)).tobytes(order="F")
    head = bytes(header.binaryblock) + bytes(4)
    if ".img" in path.name:
        put(path.with_name(path.name.replace(".img", ".hdr")), head)
        return put(path, body)
    return put(path, head + body)


def in_ras() -> tuple[Any, Grid]:
    """The voxels and the grid that `MM` stands for: its first axis runs to the left."""
    affine = MM.copy()
    affine[:3, 3] += MM[:3, 0] * (SHAPE[0] - 1)
    affine[:3, 0] *= -1
    x, y, z, w = affine.tolist()
    return voxels()[::-1], Grid(SHAPE, (tuple(x), tuple(y), tuple(z), tuple(w)))


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("nifti2", [False, True])
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.img", "a.img.gz", "A.NII"])
def test_every_kind_of_file_gives_the_same_volume(
    name: str, nifti2: bool, big: bool, tmp_path: Path
) -> None:
    path = save(tmp_path / name, fields(nifti2, pair=".img" in name, big=big))
    truth, grid = in_ras()
    assert read_grid(path).agrees(grid)
    volume = read_volume(path)
    assert volume.dtype == np.float32
    assert np.array_equal(volume, truth)
    stored, affine = _read(path)
    assert np.array_equal(stored, voxels())
    assert np.allclose(affine, MM, atol=1e-5)


@pytest.mark.parametrize("forms", [(1, 0), (0, 1), (2, 2), (1, 4)])
@pytest.mark.parametrize("nifti2", [False, True])
@pytest.mark.parametrize(("unit", "length"), [(1, 1e-3), (3, 1e3), (2, 1.0), (0, 1.0)])
def test_lengths_are_in_the_units_of_the_header(
    unit: int, length: float, nifti2: bool, forms: tuple[int, int], tmp_path: Path
) -> None:
    header = fields(nifti2)
    affine = MM.copy()
    affine[:3] *= length
    header.set_qform(affine, forms[0])
    header.set_sform(affine, forms[1])
    header["xyzt_units"] = unit + 8  # seconds for a time axis
    path = save(tmp_path / "a.nii.gz", header)
    truth, grid = in_ras()
    assert read_grid(path).agrees(grid)
    assert np.array_equal(read_volume(path), truth)
    assert np.allclose(_read(path)[1], MM, atol=1e-4)


def test_a_microscope_s_voxels_are_a_grid(tmp_path: Path) -> None:
    header = fields()
    header.set_qform(None, 0)
    header.set_sform(np.diag([0.4, 0.4, 0.5, 1]), 1)
    header["pixdim"][1:4] = 0.4, 0.4, 0.5
    header["xyzt_units"] = 3
    grid = read_grid(save(tmp_path / "a.nii", header))
    assert grid.sides == pytest.approx((4e-4, 4e-4, 5e-4))


def wrong(**values: Any) -> Spoil:
    """Sets fields; `field_k` is an element."""

    def spoil(header: Any) -> None:
        for name, value in values.items():
            field, _, index = name.rpartition("__")
            if field:
                header[field][int(index)] = value
            else:
                header[name] = value

    return spoil


WRONG: list[tuple[Spoil, str]] = [
    (wrong(sizeof_hdr=347), "has no NIfTI header.*sizeof_hdr"),
    (wrong(magic=b"n+3"), r"magic b'n\+3'; expected b'n\+1'"),
    (wrong(magic=b""), "magic b''"),
    (wrong(magic=b"ni1"), r"magic ni1: the voxels are in another, .img file"),
    (wrong(dim__0=0), r"0 dimensions by dim\[0\]; expected 1 to 7"),
    (wrong(dim__0=8), r"8 dimensions by dim\[0\]"),
    (wrong(dim__0=-3), r"-3 dimensions by dim\[0\]"),
    (wrong(dim__0=2), "holds more than .*436"),
    (wrong(dim__0=1), "line of voxels"),
    (wrong(dim__1=1, dim__2=1), "line of voxels"),
    (wrong(dim__1=-7), r"is empty: its shape is \(-7, 6, 5\)"),
    (wrong(dim__2=0), r"is empty: its shape is \(7, 0, 5\)"),
    (wrong(dim__2=7), "is cut short: 772 bytes, where its header declares 842"),
    (wrong(dim__0=4, dim__4=2), r"4 dimensions \(7, 6, 5, 2\); save one volume"),
    (wrong(dim__0=5, dim__4=1, dim__5=3), r"5 dimensions \(7, 6, 5, 1, 3\)"),
    (wrong(datatype=5), "unknown datatype, 5"),
    (wrong(datatype=0, bitpix=0), "datatype 0"),
    (wrong(datatype=1, bitpix=1), "datatype 1"),
    (wrong(datatype=32, bitpix=64), r"complex64 voxels \(datatype 32\); expected grey"),
    (wrong(datatype=128, bitpix=24), r"RGB voxels \(datatype 128\)"),
    (wrong(datatype=2304, bitpix=32), r"RGBA voxels \(datatype 2304\)"),
    (wrong(datatype=1536, bitpix=128), r"datatype 1536"),
    (wrong(bitpix=8), r"datatype 4 \(int16\) has 16 bits, bitpix is 8"),
    (wrong(vox_offset=0), "vox_offset 0; expected 352"),
    (wrong(vox_offset=348), "vox_offset 348"),
    (wrong(vox_offset=352.5), "vox_offset 352.5"),
    (wrong(vox_offset=np.nan), "vox_offset nan"),
    (wrong(vox_offset=-1e9), "vox_offset"),
    (wrong(vox_offset=368), "cut short"),
    (wrong(vox_offset=1e30), "cut short"),
    (wrong(scl_slope=np.nan), "scl_slope nan"),
    (wrong(scl_slope=np.inf), "scl_slope inf"),
    (wrong(scl_slope=2, scl_inter=np.nan), "scl_inter nan"),
    (wrong(pixdim__1=0), r"pixdim\[1\] 0; expected the side"),
    (wrong(pixdim__2=-1.2), r"pixdim\[2\] -1.2"),
    (wrong(pixdim__3=np.nan), r"pixdim\[3\] nan"),
    (wrong(pixdim__1=np.inf), r"pixdim\[1\] inf"),
    (wrong(pixdim__0=3), r"pixdim\[0\] \(qfac\) 3"),
    (wrong(pixdim__1=1.8), r"1.8 x 1.237 x 2.062 by pixdim, of 0.9 x 1.237 x 2.062 by"),
    (wrong(xyzt_units=4), r"unit 4 \(xyzt_units\)"),
    (wrong(sform_code=6), "sform_code 6"),
    (wrong(qform_code=-1), "qform_code -1"),
    (wrong(sform_code=0, qform_code=0), "does not tell its orientation.*right or to the left"),
    (wrong(srow_x__0=np.nan), "affine that is no grid"),
    (wrong(srow_x=[0, 0, 0, 0]), "affine that is no grid"),
    (wrong(sform_code=0, quatern_b=2), "qform that is no rotation"),
    (wrong(sform_code=0, quatern_b=np.nan), "affine that is no grid|no rotation"),
    (wrong(qoffset_x=np.inf), "qform that is not finite"),
    (wrong(qoffset_x=40), "sform and qform, both of code 1, place voxels differently"),
    (wrong(pixdim__0=1), "left by its sform is right by its qform"),
    (wrong(pixdim__0=1, sform_code=4), "left by its sform is right by its qform"),
]


@pytest.mark.parametrize(("spoil", "message"), WRONG)
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_a_header_that_does_not_hold_is_named_by_its_field(
    spoil: Spoil, message: str, name: str, tmp_path: Path
) -> None:
    header = fields()
    spoil(header)
    path = save(tmp_path / name, header)
    with pytest.raises(CorruptImageError, match=rf"{name}: .*({message})"):
        read_volume(path)


RIGHT: list[Spoil] = [
    wrong(dim__0=4, dim__4=1),
    wrong(dim__0=7, dim__4=1, dim__5=1, dim__6=1, dim__7=1),
    wrong(scl_slope=0, scl_inter=5),  # the standard: not scaled
    wrong(qoffset_x=40, sform_code=4),  # two spaces: the sform counts
    wrong(xyzt_units=0),
    wrong(vox_offset=352, dim_info=57, cal_max=3),
]


@pytest.mark.parametrize("change", RIGHT)
def test_what_the_standard_allows_is_read_by_it(change: Spoil, tmp_path: Path) -> None:
    header = fields()
    change(header)
    path = save(tmp_path / "a.nii", header)
    truth, grid = in_ras()
    assert np.array_equal(read_volume(path), truth)
    assert read_grid(path).agrees(grid)


def test_qfac_of_0_is_1(tmp_path: Path) -> None:
    header = fields()
    header.set_sform(None, 0)
    header.set_qform(np.diag([2.0, 3.0, 4.0, 1.0]), 1)
    header["pixdim"][0] = 0
    assert read_grid(save(tmp_path / "a.nii", header)).sides == (2, 3, 4)


def test_every_spoilt_bit_of_a_plain_header_is_refused_or_read(tmp_path: Path) -> None:
    whole = save(tmp_path / "a.nii", fields()).read_bytes()
    refused = 0
    for bit in np.random.default_rng(0).choice(352 * 8, 150, replace=False).tolist():
        spoilt = bytearray(whole)
        spoilt[bit // 8] ^= 1 << bit % 8
        (tmp_path / "a.nii").write_bytes(spoilt)
        try:
            assert read_volume(tmp_path / "a.nii").size == np.prod(SHAPE)
        except CorruptImageError:
            refused += 1
    assert refused > 10


@pytest.mark.parametrize("dtype", ["u1", "i1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"])
@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize(("slope", "inter"), [(1, 0), (0, 9), (0.5, -3), (-2, 0), (1, 7)])
def test_voxels_are_scaled_as_the_header_says(
    slope: float, inter: float, big: bool, dtype: str, tmp_path: Path
) -> None:
    header = fields(big=big)
    header["scl_slope"], header["scl_inter"] = slope, inter
    stored = voxels() % 100 if dtype in ("i1", "u1") else voxels()
    path = save(tmp_path / "a.nii", header, stored.astype(dtype))
    truth = stored * slope + inter if slope else stored
    assert np.array_equal(read_stored(path)[0], truth.astype(np.float32))


@pytest.mark.parametrize(
    ("dtype", "value", "slope", "message"),
    [
        ("f8", 1e39, 1, r"holds 1 voxels beyond the range of float32, to 1e\+39"),
        ("f8", -1e300, 1, r"holds 1 voxels beyond the range of float32, to 1e\+300"),
        ("i8", 2**62, 1e30, r"holds \d+ voxels beyond the range of float32"),
        ("f4", 3e38, 100, r"holds 1 voxels beyond the range of float32"),
        ("f8", np.nan, 1, "holds 1 voxels that are NaN or infinite"),
        ("f4", -np.inf, 2, "holds 1 voxels that are NaN or infinite"),
    ],
)
def test_what_float32_cannot_hold_is_named(
    dtype: str, value: float, slope: float, message: str, tmp_path: Path
) -> None:
    stored = voxels(dtype)
    stored[1, 2, 3] = value
    header = fields()
    header["scl_slope"] = slope
    with pytest.raises(CorruptImageError, match=message):
        read_volume(save(tmp_path / "a.nii.gz", header, stored))


def test_a_slice_need_not_tell_the_side_of_an_axis_that_it_lacks(tmp_path: Path) -> None:
    for side in (0.0, -1.0, float("nan")):
        header = fields()
        header.set_data_shape((7, 6))
        header["pixdim"][3] = side
        path = save(tmp_path / "a.nii", header, voxels()[:, :, 0])
        assert read_volume(path).shape == (7, 6, 1)


@pytest.mark.parametrize(
    ("names", "given"),
    [
        (("a.hdr", "a.img"), "a.hdr"),
        (("a.HDR", "a.IMG"), "a.IMG"),
        (("a.hdr.gz", "a.img"), "a.img"),
        (("a.hdr", "a.img.gz"), "a.img.gz"),
        (("a.hdr", "a.img.gz"), "a.hdr"),
    ],
)
def test_the_halves_of_a_pair_find_each_other(
    names: tuple[str, str], given: str, tmp_path: Path
) -> None:
    put(tmp_path / names[0], bytes(fields(pair=True).binaryblock))
    put(tmp_path / names[1], voxels().tobytes(order="F"))
    assert files_of(tmp_path / given) == (tmp_path / names[0], tmp_path / names[1])
    assert np.array_equal(read_stored(tmp_path / given)[0], voxels())


def test_half_a_pair_and_two_other_halves(tmp_path: Path) -> None:
    path = save(tmp_path / "a.img", fields(pair=True))
    put(tmp_path / "a.hdr.gz", (tmp_path / "a.hdr").read_bytes())
    with pytest.raises(CorruptImageError, match=r"a.img: has two .*a.hdr and a.hdr.gz; remove"):
        read_grid(path)
    for header in (tmp_path / "a.hdr", tmp_path / "a.hdr.gz"):
        header.unlink()
    with pytest.raises(CorruptImageError, match=r"a.img: .* no a.hdr with its header beside it"):
        read_volume(path)
    (tmp_path / "b.hdr").touch()
    with pytest.raises(CorruptImageError, match=r"b.hdr: .* no b.img with its voxels beside it"):
        read_volume(tmp_path / "b.hdr")


def test_a_header_and_its_voxels_know_whether_they_are_one_file(tmp_path: Path) -> None:
    path = save(tmp_path / "a.img", fields())
    with pytest.raises(CorruptImageError, match=r"n\+1: the voxels are behind it, in one .nii"):
        read_grid(path)


def test_analyze_has_no_left_and_right(tmp_path: Path) -> None:
    image = nibabel.AnalyzeImage(voxels(), np.diag([-1.0, 1.0, 1.0, 1.0]))
    nibabel.save(image, tmp_path / "a.img")
    with pytest.raises(CorruptImageError, match=r"Analyze 7.5.*right or to the left; save it as"):
        read_volume(tmp_path / "a.img")


def test_line_ends_of_nifti_2(tmp_path: Path) -> None:
    header = fields(nifti2=True)
    header["eol_check"] = 13, 10, 26, 13
    with pytest.raises(CorruptImageError, match="line ends were converted"):
        read_header(save(tmp_path / "a.nii", header))


def test_an_extension_is_passed_over(tmp_path: Path) -> None:
    header = fields()
    header["vox_offset"] = 352 + 32
    comment = struct.pack("<ii", 32, 6) + b"scanned on a Monday".ljust(24, b"\0")
    block = bytes(header.binaryblock) + b"\1\0\0\0" + comment + voxels().tobytes(order="F")
    for name in ("a.nii", "a.nii.gz"):
        assert np.array_equal(read_stored(put(tmp_path / name, block))[0], voxels())


@pytest.mark.parametrize("data", [b"", b"x", b"\x5c\x01", bytes(400)])
def test_what_is_no_header(data: bytes, tmp_path: Path) -> None:
    for name in ("a.nii", "a.nii.gz"):
        with pytest.raises(CorruptImageError, match=rf"{name}: cannot be read: has no NIfTI"):
            read_grid(put(tmp_path / name, data))


def stored_of(path: Path) -> npt.NDArray[np.float32]:
    return read_stored(path)[0]


def test_a_file_that_is_gone_or_no_file(tmp_path: Path) -> None:
    with pytest.raises(CorruptImageError, match=r"a.nii: cannot be read \(No such file"):
        stored_of(tmp_path / "a.nii")
    (tmp_path / "b.nii.gz").mkdir()
    with pytest.raises(CorruptImageError, match=r"b.nii.gz: cannot be read \(Is a directory"):
        stored_of(tmp_path / "b.nii.gz")


def test_real_volumes_are_read_as_nibabel_reads_them(shared_data: Path) -> None:
    files = sorted((shared_data / "sample").rglob("*.nii*"))
    assert files
    for file in files[:6]:
        image: Any = nibabel.load(file)
        values, header = read_stored(file)
        assert np.array_equal(values, np.asarray(image.dataobj, np.float32).reshape(values.shape))
        assert np.array_equal(header.affine, image.affine)
