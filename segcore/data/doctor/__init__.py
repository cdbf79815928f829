"""The data doctor: recognises what is wrong with images and labels, and proposes the repair."""

from segcore.data.doctor.examine import examine
from segcore.data.doctor.proposal import ClassRow, Diagnosis, Normalized, Picture, Proposal, accept

__all__ = ["ClassRow", "Diagnosis", "Normalized", "Picture", "Proposal", "accept", "examine"]
