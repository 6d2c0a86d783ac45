"""What watches a run: averages, checkpoints, metrics, pictures, predictions, speed and guards."""

from callbacks.checkpoints import BestCheckpoint, LastCheckpoint, best_of
from callbacks.early_stopping import EarlyStopping
from callbacks.ema import EMACallback, ema_weights
from callbacks.figures import NewestFigures
from callbacks.files import AtomicCheckpointIO
from callbacks.final_validation import FinalValidation
from callbacks.guard import NonFiniteGuard, NonFiniteLossError
from callbacks.metrics.segmentation import SegmentationMetrics
from callbacks.metrics.translation import TranslationMetrics
from callbacks.performance import Performance
from callbacks.predictions import PredictionWriter
from callbacks.preemption import Preemption
from callbacks.progress import Progress
from callbacks.progress_bar import RunProgressBar
from callbacks.rows import TrainingRows
from callbacks.samples import SampleGrid
from callbacks.throughput import Throughput

__all__ = [
    "AtomicCheckpointIO",
    "BestCheckpoint",
    "EMACallback",
    "EarlyStopping",
    "FinalValidation",
    "LastCheckpoint",
    "NewestFigures",
    "NonFiniteGuard",
    "NonFiniteLossError",
    "Performance",
    "PredictionWriter",
    "Preemption",
    "Progress",
    "RunProgressBar",
    "SampleGrid",
    "SegmentationMetrics",
    "Throughput",
    "TrainingRows",
    "TranslationMetrics",
    "best_of",
    "ema_weights",
]
