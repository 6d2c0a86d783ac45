"""The header of a NIfTI file, believed only where its fields agree with each other.

What is wrong with it is a ValueError with the reason alone: the caller knows the file.
"""

import itertools
import math
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.float64]

HEADER_BYTES = 540  # of NIfTI-2; NIfTI-1 and Analyze 7.5 have 348
_MAGIC = {348: (b"n+1", b"ni1"), 540: (b"n+2", b"ni2")}  # voxels in the same file, in another one
_LINE_ENDS = (13, 10, 26, 10)
_IN_MM = {0: 1.0, 1: 1e3, 2: 1.0, 3: 1e-3}  # unknown (taken as mm), metres, mm, microns
_SAME_PERSON = (1, 2)  # codes of a scanner's space, and of one aligned to another scan
_TRANSFORMS = range(6)
_FLAT = 1e-6  # of the volume of a box: what axes span that lie in one plane


@dataclass(frozen=True)
class Header:
    """What is needed to read voxels.

    Attributes:
        shape: Voxels along the three axes, as stored.
        dtype: Of a stored voxel, with its byte order.
        offset: Bytes before the voxels.
        slope: A grey value is `slope * stored + inter`.
        inter: As `slope`.
        affine: Index to mm, (4, 4).
        fields: All that the file says, as nibabel has it.
    """

    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    offset: int
    slope: float
    inter: float
    affine: Matrix
    fields: Any

    @property
    def length(self) -> int:
        """Bytes of the voxels."""
        return math.prod(self.shape) * self.dtype.itemsize


def parse_header(block: bytes, single: bool) -> Header:
    """Reads a header and compares its fields.

    Args:
        block: The first bytes of the file, `HEADER_BYTES` where it has as many.
        single: Whether the voxels are in the same file.

    Raises:
        ValueError: If it is no NIfTI header, does not agree with itself, or tells of something
            else than one grey volume or slice; says which field is how.
    """
    fields = header_fields(block, single)
    shape = _shape(fields)
    axes = [axis for axis in range(3) if shape[axis] > 1]
    if len(axes) < 2:
        raise ValueError(f"holds a line of voxels: its shape is {shape}")
    dtype = _dtype(fields)
    offset = _offset(fields, single)
    slope, inter = _scaling(fields)
    with np.errstate(all="ignore"):  # what is not finite is looked for, and named
        affine = _affine(fields, shape, axes)
    return Header(shape, dtype, offset, slope, inter, affine, fields)


def header_fields(block: bytes, single: bool) -> Any:
    """The header as nibabel has it, of the version and byte order of the block.

    Args:
        block: As in `parse_header`.
        single: Likewise.

    Raises:
        ValueError: If it is no NIfTI header, or that of the other kind of file.
    """
    from nibabel.nifti1 import Nifti1Header, Nifti1PairHeader
    from nibabel.nifti2 import Nifti2Header, Nifti2PairHeader

    sizes = {order: struct.unpack(order + "i", block[:4].ljust(4, b"\0"))[0] for order in "<>"}
    order = next((order for order, size in sizes.items() if size in _MAGIC), None)
    if order is None or len(block) < sizes[order]:
        reason = "it is shorter than one" if len(block) < 348 else "sizeof_hdr is not 348 or 540"
        raise ValueError(f"cannot be read: has no NIfTI header ({reason})")
    size = sizes[order]
    kind: Any = {
        (348, True): Nifti1Header,
        (348, False): Nifti1PairHeader,
        (540, True): Nifti2Header,
        (540, False): Nifti2PairHeader,
    }[size, single]
    fields = kind(block[:size], order, check=False)
    _require_magic(fields, size, single)
    return fields


def _require_magic(fields: Any, size: int, single: bool) -> None:
    magic = fields["magic"].item()
    one_file, two_files = _MAGIC[size]
    if magic == (one_file if single else two_files):
        if size == 540 and tuple(fields["eol_check"].tolist()) != _LINE_ENDS:
            raise ValueError("has a spoilt magic (line ends were converted); copy it as binary")
        return
    if magic in (one_file, two_files):
        where = "behind it, in one .nii file" if magic == one_file else "in another, .img file"
        raise ValueError(f"has the magic {magic.decode()}: the voxels are {where}; rename it")
    if size == 348 and not single:
        raise ValueError(
            "is Analyze 7.5, which does not tell whether the first axis runs to the patient's "
            "right or to the left; save it as NIfTI with the tool that knows"
        )
    raise ValueError(f"has the magic {magic!r}; expected {one_file!r} or {two_files!r}")


def _shape(fields: Any) -> tuple[int, int, int]:
    number, *sizes = fields["dim"].tolist()
    if not 1 <= number <= 7:
        raise ValueError(f"has {number} dimensions by dim[0]; expected 1 to 7")
    shape = tuple(sizes[:number])
    if min(shape) < 1:
        raise ValueError(f"is empty: its shape is {shape}")
    if any(size > 1 for size in shape[3:]):
        raise ValueError(f"has {number} dimensions {shape}; save one volume a file, with three")
    first, second, third = (*shape, 1, 1)[:3]
    return first, second, third


def _dtype(fields: Any) -> np.dtype[Any]:
    code, bits = int(fields["datatype"]), int(fields["bitpix"])
    try:
        dtype: np.dtype[Any] = fields.get_data_dtype()
    except Exception as error:  # nibabel raises a HeaderDataError, or a KeyError
        raise ValueError(f"has an unknown datatype, {code}") from error
    if dtype.kind not in "iuf" or dtype.itemsize > 8:
        name = str(dtype) if dtype.names is None else "".join(dtype.names).upper()
        raise ValueError(f"holds {name} voxels (datatype {code}); expected grey values")
    if bits != dtype.itemsize * 8:
        reason = f"datatype {code} ({dtype.name}) has {dtype.itemsize * 8} bits, bitpix is {bits}"
        raise ValueError(f"has a header that contradicts itself: {reason}")
    return dtype


def _offset(fields: Any, single: bool) -> int:
    offset = fields["vox_offset"].item()
    least = fields.single_vox_offset if single else 0
    if not np.isfinite(offset) or offset < least or offset % 1:
        raise ValueError(f"has its voxels at vox_offset {offset:g}; expected {least} or more")
    return int(offset)


def _scaling(fields: Any) -> tuple[float, float]:
    slope, inter = fields["scl_slope"].item(), fields["scl_inter"].item()
    if slope == 0:  # the standard's sign for no scaling
        return 1.0, 0.0
    if not (np.isfinite(slope) and np.isfinite(inter)):
        reason = "0 or 1 stands for no scaling"
        raise ValueError(f"has scl_slope {slope:g} and scl_inter {inter:g}; {reason}")
    return slope, inter


def _affine(fields: Any, shape: tuple[int, int, int], axes: list[int]) -> Matrix:
    """Index to mm: by the sform where there is one, else by the qform."""
    units = int(fields["xyzt_units"]) & 7
    if units not in _IN_MM:
        raise ValueError(f"has lengths in unit {units} (xyzt_units); expected metres, mm, microns")
    sides = _sides(fields, axes)
    codes = {name: int(fields[f"{name}_code"]) for name in ("sform", "qform")}
    for name, code in codes.items():
        if code not in _TRANSFORMS:
            raise ValueError(f"has {name}_code {code}; expected 0 to 5")
    forms = {name: _form(fields, name) for name, code in codes.items() if code}
    if not forms:
        raise ValueError(
            "does not tell its orientation (qform_code and sform_code are 0): its first axis may "
            "run to the patient's right or to the left; set its sform with the tool that knows"
        )
    affine = next(iter(forms.values()))
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    flat = abs(np.linalg.det(affine[:3, :3])) <= _FLAT * lengths.prod()
    if flat or not np.isfinite(affine).all():
        reason = "has an affine that is no grid (axes of no length, or in one plane); correct it"
        raise ValueError(reason)
    if codes["sform"] in _SAME_PERSON and not np.allclose(lengths[axes], sides, rtol=0.01, atol=0):
        told = " x ".join(f"{side:.4g}" for side in sides)
        other = " x ".join(f"{side:.4g}" for side in lengths[axes])
        reason = f"voxels of {told} by pixdim, of {other} by its sform"
        raise ValueError(f"has a header that contradicts itself: {reason}; correct one")
    if len(forms) == 2:
        _require_agreement(forms["sform"], forms["qform"], shape, codes)
    affine[:3] *= _IN_MM[units]
    return affine


def _sides(fields: Any, axes: list[int]) -> list[float]:
    """The sides of a voxel by `pixdim`, along the axes with several voxels.

    Those of the others stand for nothing, and are set to 1 for the qform.
    """
    pixdim = fields["pixdim"]
    for axis in range(3):
        side = pixdim[axis + 1].item()
        if np.isfinite(side) and side > 0:
            continue
        if axis in axes:
            raise ValueError(f"has pixdim[{axis + 1}] {side:g}; expected the side of a voxel")
        pixdim[axis + 1] = 1
    return [pixdim[axis + 1].item() for axis in axes]


def _form(fields: Any, name: str) -> Matrix:
    """An affine of the header, in its own units."""
    if name == "sform":
        return np.asarray(fields.get_sform(), dtype=np.float64)
    turn = fields["pixdim"][0].item()
    if turn not in (-1, 0, 1):
        raise ValueError(f"has pixdim[0] (qfac) {turn:g}; expected 1 or -1")
    fields["pixdim"][0] = turn or 1  # the standard's reading of 0
    try:
        return np.asarray(fields.get_qform(), dtype=np.float64)
    except ValueError as error:
        raise ValueError(f"has a qform that is no rotation ({error})") from error


def _require_agreement(
    sform: Matrix, qform: Matrix, shape: tuple[int, int, int], codes: dict[str, int]
) -> None:
    """Two forms may tell of two spaces, but not of two mirrored ones, nor one space twice."""
    if not np.isfinite(qform).all():
        raise ValueError("has a qform that is not finite, though its qform_code says that it holds")
    mirrored = np.linalg.det(sform[:3, :3]) * np.linalg.det(qform[:3, :3]) < 0
    if mirrored and 1 not in shape:
        raise ValueError(
            "has a header that contradicts itself: left by its sform is right by its qform; "
            "correct one, or set its code to 0"
        )
    corners = np.array([(*c, 1) for c in itertools.product(*((0, n - 1) for n in shape))])
    apart = np.linalg.norm(corners @ (sform - qform).T, axis=1).max()
    if codes["sform"] == codes["qform"] and apart > np.linalg.norm(sform[:3, :3], axis=0).min() / 2:
        raise ValueError(
            "has a header that contradicts itself: sform and qform, both of code "
            f"{codes['sform']}, place voxels differently; correct one, or set its code to 0"
        )
