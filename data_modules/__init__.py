"""Files on disk to batches.

The data modules are imported here, so that a config can name a class without its module.
"""

from data_modules.batch import Batch
from data_modules.celebamask_hq import CelebAMaskHQDataModule
from data_modules.dermis import DermISDataModule
from data_modules.errors import CorruptImageError, DataError
from data_modules.ffhq34 import FFHQ34DataModule
from data_modules.ham10000 import HAM10000DataModule
from data_modules.image_mask_folder import ImageMaskFolderDataModule
from data_modules.isic import ISICDataModule
from data_modules.ixi import IXIDataModule
from data_modules.montgomery import MontgomeryDataModule
from data_modules.nih import NIHDataModule
from data_modules.noise import NoiseDataModule
from data_modules.ph2 import PH2DataModule
from data_modules.shenzhen import ShenzhenDataModule

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
