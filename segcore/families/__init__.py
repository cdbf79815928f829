"""The model families: what each is good for, costs and needs. Torch-free; `segcore.models.build` builds them.

A family is a network with its own options; all of them are trained, applied and compared in the same way.
"""

from segcore.families.choosing import Material, Proposal, candidates, propose
from segcore.families.encoders import ENCODERS, USUAL, encoder_millions
from segcore.families.family import Facts, Family, Obstacle, kind_of
from segcore.families.known import FAMILIES

__all__ = [
    "ENCODERS", "FAMILIES", "USUAL", "Facts", "Family", "Material", "Obstacle", "Proposal", "candidates",
    "encoder_millions", "kind_of", "propose",
]  # fmt: skip
