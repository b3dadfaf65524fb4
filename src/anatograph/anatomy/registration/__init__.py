"""Maps between the atlas and a subject."""

from anatograph.anatomy.registration.maps import AffineMap, AtlasMap, DeformableMap, load_map
from anatograph.anatomy.registration.register import METHODS, Registration, affine_dice, register

__all__ = [
    "METHODS",
    "AffineMap",
    "AtlasMap",
    "DeformableMap",
    "Registration",
    "affine_dice",
    "load_map",
    "register",
]
