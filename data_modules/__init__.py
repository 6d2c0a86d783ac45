"""Files on disk to batches.

The data modules are imported here, so that a config can name a class without its module.
"""

from data_modules.batch import Batch
from data_modules.errors import CorruptImageError, DataError
from data_modules.image_mask_folder import ImageMaskFolderDataModule
from data_modules.isic import ISICDataModule
from data_modules.montgomery import MontgomeryDataModule
from data_modules.nih import NIHDataModule
from data_modules.noise import NoiseDataModule
from data_modules.shenzhen import ShenzhenDataModule

__all__ = [
    "Batch",
    "CorruptImageError",
    "DataError",
    "ISICDataModule",
    "ImageMaskFolderDataModule",
    "MontgomeryDataModule",
    "NIHDataModule",
    "NoiseDataModule",
    "ShenzhenDataModule",
]
