"""Files on disk to batches.

The data modules of all registered data sets are here, so that a config can name a class without its
module.
"""

from typing import TYPE_CHECKING, Any

from data_modules.batch import Batch
from data_modules.errors import CorruptImageError, DataError
from data_modules.kinds.noise import NoiseDataModule
from data_modules.registry import DATASETS, find_dataset

_SETS = {kind.__name__: kind for kind in map(find_dataset, DATASETS)}
globals().update(_SETS)

__all__ = ["Batch", "CorruptImageError", "DataError", "NoiseDataModule"]
__all__ += list(_SETS)

if TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """Stands for the data modules, which no type checker sees."""
