"""Files on disk to batches.

The data modules are imported here, so that a config can name a class without its module.
"""

from data_modules.batch import Batch
from data_modules.errors import CorruptImageError, DataError
from data_modules.kinds.noise import NoiseDataModule
from data_modules.sets.celebamask_hq import CelebAMaskHQDataModule
from data_modules.sets.dermis import DermISDataModule
from data_modules.sets.ffhq34 import FFHQ34DataModule
from data_modules.sets.ham10000 import HAM10000DataModule
from data_modules.sets.image_mask_folder import ImageMaskFolderDataModule
from data_modules.sets.isic import ISICDataModule
from data_modules.sets.ixi import IXIDataModule
from data_modules.sets.montgomery import MontgomeryDataModule
from data_modules.sets.nih import NIHDataModule
from data_modules.sets.ph2 import PH2DataModule
from data_modules.sets.shenzhen import ShenzhenDataModule

__all__ = [
    "Batch",
    "CelebAMaskHQDataModule",
    "CorruptImageError",
    "DataError",
    "DermISDataModule",
    "FFHQ34DataModule",
    "HAM10000DataModule",
    "ISICDataModule",
    "IXIDataModule",
    "ImageMaskFolderDataModule",
    "MontgomeryDataModule",
    "NIHDataModule",
    "NoiseDataModule",
    "PH2DataModule",
    "ShenzhenDataModule",
]
