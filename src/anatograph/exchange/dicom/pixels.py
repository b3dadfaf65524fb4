"""Lung masks as segmentations, maps as parametric maps."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray

from anatograph._version import __version__
from anatograph.exchange.dicom.codes import SCHEME, SIDES, concept
from anatograph.exchange.dicom.source import Source
from anatograph.imaging.volume import Frame

MAKER: dict[str, Any] = {
    "manufacturer": "Anatograph",
    "manufacturer_model_name": "anatograph",
    "software_versions": __version__,
    "device_serial_number": __version__,
}
"""The software that made an object, in every object."""
_FAMILIES = {"threshold": "HistogramAnalysis", "lungmask": "ArtificialIntelligence"}


def segmentation(source: Source, labels: NDArray[np.uint8], frame: Frame, method: str) -> pydicom.Dataset:
    """A binary SEG of the lungs, one segment for each side.

    Args:
        source: the scan.
        labels: (z, y, x) on ``frame``: 1 right, 2 left, 3 side not known.
        frame: the scan's own grid, planes in the order of its slices.
        method: where the mask came from, such as ``threshold``.
    """
    from highdicom import AlgorithmIdentificationSequence
    from highdicom.color import CIELabColor
    from highdicom.seg import Segmentation, SegmentDescription
    from pydicom.sr.codedict import codes

    present = [label for label in SIDES if (labels == label).any()]
    family = getattr(codes.DCM, _FAMILIES.get(method, "ArtificialIntelligence"))
    algorithm = AlgorithmIdentificationSequence(f"Anatograph lungs: {method}", family, __version__)
    segments = [
        SegmentDescription(
            segment_number=number,
            segment_label=SIDES[label][0],
            segmented_property_category=codes.SCT.AnatomicalStructure,
            segmented_property_type=concept(SIDES[label][1]),
            algorithm_type="SEMIAUTOMATIC" if method == "given" else "AUTOMATIC",
            algorithm_identification=algorithm,
            tracking_uid=source.uid("lungs", str(label)),
            tracking_id=SIDES[label][0],
            display_color=CIELabColor.from_rgb(*SIDES[label][2]),
        )
        for number, label in enumerate(present, start=1)
    ]
    planes = np.flatnonzero((labels > 0).any(axis=(1, 2)))
    chosen = slice(int(planes[0]), int(planes[-1]) + 1)
    stacked = np.stack([labels[chosen] == label for label in present], axis=-1).astype(np.uint8)
    uid = source.uid("lungs", _digest(labels), __version__)
    images, places = _places(source, frame, chosen)
    made: pydicom.Dataset = Segmentation(
        source_images=images,
        pixel_array=stacked,
        segmentation_type="BINARY",
        segment_descriptions=segments,
        series_instance_uid=source.uid("lungs series", _digest(labels), __version__),
        series_number=9001,
        sop_instance_uid=uid,
        instance_number=1,
        content_description="Lungs",
        content_label="LUNGS",
        series_description="Anatograph: lungs",
        **places,
        **MAKER,
    )
    return made


def parametric_map(
    source: Source, values: NDArray[np.float32], frame: Frame, about: Mapping[str, Any], number: int
) -> pydicom.Dataset:
    """A map of `explain`, `deviation` or `change` as a float Parametric Map of the slices that hold lung.

    Args:
        source: the scan.
        values: (z, y, x) on ``frame``; 0 where there is no value, which the object calls padding.
        frame: the scan's own grid.
        about: the JSON file of the map.
        number: 1, 2, … of the scan's maps.
    """
    from highdicom.content import VOILUTTransformation
    from highdicom.pm import ParametricMap, RealWorldValueMapping

    low, high = (float(value) for value in about["range"])
    planes = np.flatnonzero((values != 0).any(axis=(1, 2)))
    chosen = slice(int(planes[0]), int(planes[-1]) + 1) if len(planes) else slice(0, 1)
    title = _short(f"{about['kind']} map: {about.get('target') or about['kind']}")
    lowest, highest = float(min(values.min(), low)), float(max(values.max(), high))
    mapping = RealWorldValueMapping(
        lut_label=str(about["kind"]).upper()[:16],
        lut_explanation=_short(str(about["meaning"])),
        unit=concept(("1", "UCUM", "no units")),
        value_range=(lowest, highest),
        slope=1.0,
        intercept=0.0,
        quantity_definition=concept((str(about["kind"]).upper()[:16], SCHEME, _short(str(about["meaning"])))),
    )
    digest = _digest(values)
    images, places = _places(source, frame, chosen)
    made: pydicom.Dataset = ParametricMap(
        source_images=images,
        pixel_array=np.ascontiguousarray(values[chosen], dtype=np.float32),
        series_instance_uid=source.uid("map series", title, digest, __version__),
        series_number=9100 + number,
        sop_instance_uid=source.uid("map", title, digest, __version__),
        instance_number=1,
        contains_recognizable_visual_features=False,
        real_world_value_mappings=[mapping],
        voi_lut_transformations=[VOILUTTransformation((low + high) / 2, high - low)],
        content_description=title,
        content_label="MAP",
        series_description=f"Anatograph: {title}"[:64],
        **places,
        **MAKER,
    )
    made.FloatPixelPaddingValue = made.FloatPixelPaddingRangeLimit = 0.0
    made.Laterality = ""  # both lungs
    return made


def _places(source: Source, frame: Frame, chosen: slice) -> tuple[list[pydicom.Dataset], dict[str, Any]]:
    """The images that an object refers to, and the places of its planes where these are not the images' own."""
    if source.aligned:
        return list(source.slices[chosen]), {}
    from highdicom.content import PixelMeasuresSequence, PlaneOrientationSequence, PlanePositionSequence

    positions = frame.to_lps([[0, 0, plane] for plane in range(chosen.start, chosen.stop)])
    x, y, z = frame.spacing
    return list(source.slices), {
        "plane_positions": [PlanePositionSequence("PATIENT", tuple(map(float, place))) for place in positions],
        "plane_orientation": PlaneOrientationSequence("PATIENT", tuple(map(float, frame.direction[:, :2].T.ravel()))),
        "pixel_measures": PixelMeasuresSequence((y, x), z, z),
    }


def _digest(array: NDArray[Any]) -> str:
    return hashlib.blake2b(np.ascontiguousarray(array).tobytes(), digest_size=16).hexdigest()


def _short(text: str) -> str:
    """At most 64 characters, as DICOM's LO holds."""
    return text if len(text) <= 64 else f"{text[:61]}..."
