"""What two or more of the papers share: noise schedules, weighting and samplers."""

from meddiff.diffusion.schedule import NoiseSchedule
from meddiff.diffusion.timesteps import TimestepSampler

__all__ = ["NoiseSchedule", "TimestepSampler"]
