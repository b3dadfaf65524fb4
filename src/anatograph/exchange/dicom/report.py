"""Quality and densitometry as a structured report by template TID 1500."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import pydicom

from anatograph._version import __version__
from anatograph.exchange.dicom.codes import FIGURES, MEASURES, QUALITY, SCHEME, SIDES, ZONES, concept, unit
from anatograph.exchange.dicom.pixels import MAKER
from anatograph.exchange.dicom.source import Source
from anatograph.study.subject import StoredSubject


def measurement_report(
    source: Source, segmentation: pydicom.Dataset, subject: StoredSubject, density: Mapping[str, Any]
) -> pydicom.Dataset:
    """A Comprehensive SR (TID 1500): the densitometry of both lungs and of each segment, and the quality of the scan.

    ``density`` is the subject's row of `densitometry`.  Measures that are missing are left out.
    """
    from highdicom import sr
    from pydicom.sr.codedict import codes

    device = sr.DeviceObserverIdentifyingAttributes(
        uid=source.uid("device", __version__), name="Anatograph", manufacturer_name="Anatograph",
        model_name=f"anatograph {__version__}",
    )  # fmt: skip
    observer = sr.ObserverContext(observer_type=codes.DCM.Device, observer_identifying_attributes=device)
    whole = sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=sr.TrackingIdentifier(source.uid("whole"), "Both lungs"),
        finding_type=concept(SIDES[3][1]),
        finding_sites=[sr.FindingSite(concept(SIDES[3][1]))],
        measurements=_measurements(density, "whole"),
    )
    groups = [whole]
    for item in segmentation.SegmentSequence:
        label = next(label for label, side in SIDES.items() if side[0] == item.SegmentLabel)
        measured = _measurements(density, ZONES[label])
        if not measured:
            continue
        segment = sr.ReferencedSegment(
            segmentation.SOPClassUID,
            segmentation.SOPInstanceUID,
            int(item.SegmentNumber),
            source_series=sr.SourceSeriesForSegmentation(source.series_uid),
        )
        groups.append(
            sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
                tracking_identifier=sr.TrackingIdentifier(item.TrackingUID, item.TrackingID),
                referenced_segment=segment,
                finding_type=concept(SIDES[label][1]),
                finding_sites=[sr.FindingSite(concept(SIDES[label][1]))],
                measurements=measured,
            )
        )
    groups.append(_quality(source, subject))
    report = sr.MeasurementReport(
        observation_context=sr.ObservationContext(observer_device_context=observer),
        procedure_reported=concept(("169069000", "SCT", "CT of chest")),
        imaging_measurements=groups,
        title=codes.DCM.ImagingMeasurementReport,
    )
    shown = {key: density.get(key) for key in sorted(density)}
    digest = json.dumps([shown, subject.level, subject.quality], sort_keys=True, default=str)
    made: pydicom.Dataset = sr.ComprehensiveSR(
        evidence=[*source.slices, segmentation],
        content=report[0],
        series_instance_uid=source.uid("report series", digest, __version__),
        series_number=9002,
        sop_instance_uid=source.uid("report", digest, __version__),
        instance_number=1,
        is_complete=True,
        manufacturer=MAKER["manufacturer"],
        manufacturer_model_name=MAKER["manufacturer_model_name"],
        software_versions=MAKER["software_versions"],
        series_description="Anatograph: densitometry and quality",
    )
    scheme = pydicom.Dataset()
    scheme.CodingSchemeDesignator = SCHEME
    scheme.CodingSchemeName = "Anatograph, private"
    scheme.CodingSchemeVersion = "1"
    scheme.CodingSchemeResponsibleOrganization = "Anatograph"
    made.CodingSchemeIdentificationSequence = [scheme]
    return made


def _measurements(density: Mapping[str, Any], zone: str) -> list[Any]:
    from highdicom import sr
    from pydicom.sr.codedict import codes

    found = []
    for name, (code, units, factor) in MEASURES.items():
        value = density.get(f"{zone}_{name}")
        if value is None or not math.isfinite(float(value)):
            continue
        mean = codes.SCT.Mean if name == "mean_hu" else None
        found.append(sr.Measurement(concept(code), _rounded(float(value) * factor), unit(units), derivation=mean))
    return found


def _quality(source: Source, subject: StoredSubject) -> Any:
    """The level as an evaluation, and the figures as measurements."""
    from highdicom import sr
    from pydicom.sr.codedict import codes

    level = concept((subject.level.upper(), SCHEME, f"Level {subject.level}"))
    figures = []
    for name, (code, meaning, units) in FIGURES.items():
        value = subject.quality.get(name)
        if isinstance(value, (bool, int, float)) and math.isfinite(float(value)):
            figures.append(sr.Measurement(concept((code, SCHEME, meaning)), _rounded(float(value)), unit(units)))
    return sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=sr.TrackingIdentifier(source.uid("quality"), "Quality of the scan"),
        finding_type=codes.DCM.ImageQuality,
        qualitative_evaluations=[sr.QualitativeEvaluation(concept(QUALITY), level)],
        measurements=figures,
    )


def _rounded(value: float) -> float:
    """Six significant digits: a decimal string has room for 16 characters."""
    return float(f"{value:.6g}")
