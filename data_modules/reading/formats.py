"""Which files hold images, and the arrays that they become."""

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

ImageArray: TypeAlias = npt.NDArray[np.uint8] | npt.NDArray[np.uint16] | npt.NDArray[np.float32]
"""(H, W, 1 or 3)."""
Mask: TypeAlias = npt.NDArray[np.uint8]
"""(H, W), class ids."""

DICOM_SUFFIXES = frozenset({".dcm", ".dicom"})
IMAGE_SUFFIXES = DICOM_SUFFIXES | {".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".gif"}
IMAGE_KINDS = "png, jpg, bmp, tiff, gif or DICOM"
"""The same in words, for messages."""
PAIRED_SUFFIXES = (".img.gz", ".img", ".hdr.gz", ".hdr")
"""Of NIfTI in two files: voxels and header."""
NIFTI_SUFFIXES = (".nii.gz", ".nii", *PAIRED_SUFFIXES)
