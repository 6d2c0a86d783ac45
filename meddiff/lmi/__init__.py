"""LMIDiffusion: zero-shot modality translation guided by local mutual information."""

from meddiff.lmi.module import LMIDiffusionModule
from meddiff.lmi.mutual_information import local_mutual_information, mutual_information

__all__ = ["LMIDiffusionModule", "local_mutual_information", "mutual_information"]
