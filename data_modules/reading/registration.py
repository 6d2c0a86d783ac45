"""Rigid registration of two volumes of one person, as T1 and PD of IXI need.

docs/papers/lmi.md 5c-12.

What is remembered of a registration is its matrix, not the volume: some hundred bytes a pair in the
user's cache directory, since a data root may be read-only.
"""

import contextlib
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from data_modules.errors import DataError
from data_modules.reading.nifti import files_of, read_stored
from data_modules.reading.user_cache import cache_folder, keep

Volume: TypeAlias = npt.NDArray[np.float32]
Matrix: TypeAlias = npt.NDArray[np.float64]

_FORMAT = 2  # of the remembered matrix, and of the way it is found; another number is found anew
_RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])  # nibabel's world to that of SimpleITK, and back
_SHRINK = (4, 2, 1)
_BLUR = (2, 1, 0)  # standard deviations in voxels
_SAMPLES = 60_000  # voxels a level at which the two volumes are compared
_SEED = 1
_LEAST_INFORMATION = 0.05  # nats; two heads that overlap share several times as much


def register_rigid(fixed: Path, moving: Path, *, cache: bool = True) -> tuple[Volume, Matrix]:
    """Turns and shifts a volume onto another one and resamples it there.

    The rotation and the shift with the largest mutual information (Mattes) are searched from coarse
    to fine, from the best of three starts: as the headers say, centres upon each other, centres of
    mass upon each other. The same files give the same result.

    Args:
        fixed: NIfTI file that stays as it is.
        moving: NIfTI file of the same person.
        cache: Whether the matrix is remembered as long as both files keep size and time.

    Returns:
        The moving volume, interpolated linearly at the voxels of the fixed one: (X, Y, Z), float32,
        in the order of the fixed file's axes, with its smallest value where it does not reach; and
        the affine (4, 4) of the fixed file, in mm.

    Raises:
        DataError: If a file cannot be read, is no 3-D volume, SimpleITK is not installed, or no
            match is found.
    """
    anchor, affine = _read(fixed)
    volume, own_affine = _read(moving)
    memory = _memory(fixed, moving)
    matrix = _recall(memory) if cache else None
    if matrix is None:
        try:
            matrix = _match((anchor, affine), (volume, own_affine))
        except ImportError as error:
            raise DataError(
                f"{moving} has to be registered to {fixed}: SimpleITK is not installed.\n"
                "Fix: pip install 'meddiff[registration]', or give both on one grid."
            ) from error
        except RuntimeError as error:
            reason = str(error).strip().rpartition("\n")[2]
            raise DataError(
                f"{moving} could not be registered to {fixed} ({reason}).\n"
                "Fix: see whether both show the same head; register them by hand, or list the "
                "subject in data.init_args.exclude_file."
            ) from error
        if cache:
            found = json.dumps(matrix.tolist())
            keep(memory, lambda out: out.write(found.encode()))
    from scipy.ndimage import affine_transform

    to_voxels = np.linalg.inv(own_affine) @ matrix @ affine
    moved = affine_transform(
        volume, to_voxels, output_shape=anchor.shape, order=1, cval=float(volume.min())
    )
    return np.asarray(moved, dtype=np.float32), affine


def _read(path: Path) -> tuple[Volume, Matrix]:
    voxels, header = read_stored(path)
    if min(header.shape) < 2:
        text = "x".join(map(str, header.shape))
        raise DataError(f"{path}: {text} voxels; registration needs a 3-D volume.")
    return voxels, header.affine


def _match(fixed: tuple[Volume, Matrix], moving: tuple[Volume, Matrix]) -> Matrix:
    """The matrix (4, 4) from places in the fixed volume to the moving one's, in mm (RAS).

    Raises:
        ImportError: If SimpleITK is not installed.
        RuntimeError: If the volumes do not match.
    """
    with _one_thread():
        return _search(_to_sitk(*fixed), _to_sitk(*moving))


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Several threads add up in an order that varies, and no setting of one filter reaches all."""
    import SimpleITK as sitk

    before = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    try:
        yield
    finally:
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(before)


def _search(fixed: Any, moving: Any) -> Matrix:
    method = _mutual_information()
    method.SetShrinkFactorsPerLevel(_SHRINK)
    method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOff()
    method.SetSmoothingSigmasPerLevel(_BLUR)
    shares = [min(1.0, _SAMPLES * factor**3 / fixed.GetNumberOfPixels()) for factor in _SHRINK]
    method.SetMetricSamplingPercentagePerLevel(shares, _SEED)
    method.SetOptimizerAsRegularStepGradientDescent(
        learningRate=2.0, minStep=1e-3, numberOfIterations=200, gradientMagnitudeTolerance=1e-8
    )
    method.SetOptimizerScalesFromPhysicalShift()
    pose = _best_start(fixed, moving)
    method.SetInitialTransform(pose, inPlace=True)
    method.Execute(fixed, moving)
    if -method.GetMetricValue() < _LEAST_INFORMATION:
        raise RuntimeError("one volume says next to nothing of the other")
    return _to_matrix(pose)


def _best_start(fixed: Any, moving: Any) -> Any:
    """Of three simple poses that with the largest mutual information."""
    import SimpleITK as sitk

    method = _mutual_information()
    share = min(1.0, _SAMPLES / fixed.GetNumberOfPixels())
    method.SetMetricSamplingPercentage(share, _SEED)
    centred = sitk.CenteredTransformInitializerFilter
    poses = [
        sitk.Euler3DTransform(
            sitk.CenteredTransformInitializer(fixed, moving, sitk.Euler3DTransform(), mode)
        )
        for mode in (centred.GEOMETRY, centred.MOMENTS)
    ]
    poses.append(sitk.Euler3DTransform(poses[0].GetCenter()))
    values = []
    for pose in poses:
        method.SetInitialTransform(pose)
        try:
            values.append(method.MetricEvaluate(fixed, moving))
        except RuntimeError:  # raised where the two do not overlap
            values.append(np.inf)
    return poses[int(np.argmin(values))]


def _mutual_information() -> Any:
    import SimpleITK as sitk

    method = sitk.ImageRegistrationMethod()
    method.SetInterpolator(sitk.sitkLinear)
    method.SetMetricAsMattesMutualInformation(numberOfHistogramBins=32)
    method.SetMetricSamplingStrategy(method.RANDOM)
    return method


def _to_sitk(values: Volume, affine: Matrix) -> Any:
    import SimpleITK as sitk

    axes = (_RAS_TO_LPS @ affine)[:3]
    spacing = np.linalg.norm(axes[:, :3], axis=0)
    image = sitk.GetImageFromArray(values.transpose(2, 1, 0))
    image.SetSpacing(spacing.tolist())
    image.SetDirection((axes[:, :3] / spacing).ravel().tolist())
    image.SetOrigin(axes[:, 3].tolist())
    return image


def _to_matrix(pose: Any) -> Matrix:
    """The matrix (4, 4) of a pose, in mm (RAS)."""
    matrix = np.eye(4)
    matrix[:3, :3] = np.reshape(pose.GetMatrix(), (3, 3))
    centre = np.array(pose.GetCenter())
    matrix[:3, 3] = centre + pose.GetTranslation() - matrix[:3, :3] @ centre
    return np.asarray(_RAS_TO_LPS @ matrix @ _RAS_TO_LPS)


def _memory(fixed: Path, moving: Path) -> Path:
    """File that keeps the matrix of two files as they are now."""
    files = [*files_of(fixed), *files_of(moving)]
    stamps = [(str(p.resolve()), p.stat().st_size, p.stat().st_mtime_ns) for p in files]
    key = hashlib.sha256(json.dumps([_FORMAT, *stamps]).encode()).hexdigest()[:24]
    return cache_folder() / f"registered-{key}.json"


def _recall(memory: Path) -> Matrix | None:
    try:
        matrix = np.array(json.loads(memory.read_text(encoding="utf-8")), dtype=np.float64)
    except (OSError, ValueError, TypeError):
        return None
    return matrix if matrix.shape == (4, 4) else None
