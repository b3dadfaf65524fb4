"""Masks, maps and measurements as DICOM objects and as 3D Slicer scenes, read back by other readers."""

from __future__ import annotations

import io
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import highdicom as hd
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk

import anatograph
from anatograph import cli
from anatograph.anatomy.atlas import Atlas, save_atlas
from anatograph.anatomy.markups import read_markups
from anatograph.errors import UserError
from anatograph.evaluation.densitometry.measuring import measure_subject
from anatograph.execution.account import RunAccount
from anatograph.explanation.legend import MapLegend
from anatograph.explanation.map_files import RegionMap, write_map
from anatograph.imaging.reading import write_mask, write_volume
from anatograph.imaging.volume import Mask, Volume
from anatograph.study.store import Study
from fixtures.chest import SeriesWriter

PATIENT = {"PatientName": "Doe^Jane", "PatientBirthDate": "19500102", "InstitutionName": "St Elsewhere"}


@pytest.fixture(scope="module")
def made(
    tmp_path_factory: pytest.TempPathFactory, atlas: Atlas, scan: Callable[..., tuple[Volume, Mask]]
) -> tuple[Path, Path]:
    """A study of a plain DICOM scan, one with a missing slice, one that names its patient, and a NIfTI file; maps."""
    folder = tmp_path_factory.mktemp("images")
    volume, mask = scan(0)
    more: dict[str, dict[str, object]] = {"plain": {}, "gap": {"skip": (20,)}, "named": {"tags": PATIENT}}
    for name, given in more.items():
        frame = volume.frame
        SeriesWriter(volume.array, frame.spacing, frame.origin, **given).write(folder / name)
    write_volume(folder / "nifti.nii.gz", volume)
    write_mask(folder / "lungs.nii.gz", mask)
    rows = [*(f"{name},{name},lungs.nii.gz" for name in more), "nifti,nifti.nii.gz,lungs.nii.gz"]
    (folder / "cohort.csv").write_text("\n".join(["subject_id,image,lungs", *rows, ""]))
    save_atlas(atlas, folder / "atlas")
    anatograph.preprocess(folder / "cohort.csv", folder / "study", atlas=folder / "atlas", registration="affine")
    study = Study.open(folder / "study")
    for name, withheld in (("plain", ""), ("gap", "this probe is no better than chance")):
        values = np.linspace(0.02, 0.98, len(study.atlas))
        meaning = "contribution relative to the training subjects: above 0.5 for more emphysema"
        words = MapLegend(
            "probe", "t", meaning, "more", "less", 0.5, (0.0, 1.0), {0.5: "0.5"}, "emph", withheld=withheld
        )
        account = RunAccount("explain", {}, folder / "maps")
        shown, target = RegionMap(name, values, words), folder / "maps"
        write_map(shown, study.subject(name), study.atlas, target, f"{name}_emph", None, account)
    return folder / "study", folder / "maps"


def errors_of(file: Path) -> list[str]:
    """What D. Clunie's validator calls an error."""
    program = Path(sys.executable).with_name("dciodvfy")
    done = subprocess.run([program, "-new", str(file)], capture_output=True, encoding="utf-8", check=False)
    return [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("Error")]


def test_dicom_objects_are_valid_and_hold_what_the_study_holds(made: tuple[Path, Path], tmp_path: Path) -> None:
    study, maps = made
    done = anatograph.export_images(study, tmp_path / "out", "dicom", "plain", explanations=maps)
    assert [file.name for file in done.files] == ["lungs.dcm", "report.dcm", "plain_emph.dcm"]
    for file in done.files:
        assert errors_of(file) == []
    source = {
        data.SOPInstanceUID: data for data in (pydicom.dcmread(file) for file in (study.parent / "plain").iterdir())
    }
    any_slice = next(iter(source.values()))
    objects = [pydicom.dcmread(file) for file in done.files]
    for one in objects:
        assert (one.StudyInstanceUID, one.PatientID) == (any_slice.StudyInstanceUID, "P1")
        assert one.SeriesInstanceUID != any_slice.SeriesInstanceUID
    # The mask, slice by slice through its references, is the study's.
    subject = Study.open(study).subject("plain")
    lungs = subject.lungs()
    segmentation = hd.seg.segread(done.files[0])
    assert [item.SegmentLabel for item in segmentation.SegmentSequence] == ["Right lung", "Left lung"]
    bottom, step = lungs.frame.origin[2], lungs.frame.spacing[2]
    plane_of = {uid: round((float(data.ImagePositionPatient[2]) - bottom) / step) for uid, data in source.items()}
    held = {ref[2] for ref in segmentation.get_source_image_uids()}
    chosen = sorted(held, key=plane_of.__getitem__)
    pixels = segmentation.get_pixels_by_source_instance(chosen, combine_segments=True)
    np.testing.assert_array_equal(pixels, lungs.array[[plane_of[uid] for uid in chosen]])
    assert lungs.array.sum() == pixels.sum()
    # The map too, with its meaning and unit.
    heat = sitk.GetArrayFromImage(sitk.ReadImage(str(maps / "plain_emph.nii.gz")))
    parametric = objects[2]
    for frame, values in zip(parametric.PerFrameFunctionalGroupsSequence, parametric.pixel_array, strict=True):
        uid = frame.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
        np.testing.assert_array_equal(values, heat[plane_of[uid]])
    mapping = parametric.SharedFunctionalGroupsSequence[0].RealWorldValueMappingSequence[0]
    assert mapping.LUTExplanation.startswith("contribution relative to the training subjects")
    # The report holds the densitometry and refers to the segments.
    density, _ = measure_subject(Study.open(study), "plain")
    groups = hd.sr.ComprehensiveSR.from_dataset(objects[1]).content.get_volumetric_roi_measurement_groups()
    assert [group.tracking_identifier for group in groups] == ["Right lung", "Left lung"]
    for group, side in zip(groups, ("right", "left"), strict=True):
        found = {item.name.meaning: item.value for item in group.get_measurements()}
        assert found["Volume"] == pytest.approx(density[f"{side}_volume_ml"], rel=1e-5)
        assert found["Lung voxels below -950 HU"] == pytest.approx(100 * density[f"{side}_laa950"], rel=1e-5, abs=1e-9)
        (segment,) = (item.ReferencedSOPSequence[0] for item in group[0].ContentSequence if item.ValueType == "IMAGE")
        assert segment.ReferencedSOPInstanceUID == segmentation.SOPInstanceUID
        label = segmentation.SegmentSequence[segment.ReferencedSegmentNumber - 1].SegmentLabel
        assert label == group.tracking_identifier
    # The same inputs give the same UIDs.
    again = anatograph.export_images(study, tmp_path / "again", "dicom", "plain", explanations=maps)
    for first, second in zip(objects, again.files, strict=True):
        assert first.SOPInstanceUID == pydicom.dcmread(second, stop_before_pixels=True).SOPInstanceUID


def test_a_scan_with_a_repaired_slice_has_planes_of_its_own(made: tuple[Path, Path], tmp_path: Path) -> None:
    study, maps = made
    done = anatograph.export_images(study, tmp_path, "dicom", ["gap"], explanations=maps)
    assert [file.name for file in done.files] == ["lungs.dcm", "report.dcm"]
    assert any("gap_emph.nii.gz has no values" in note for note in done.account.notes)
    assert errors_of(done.files[0]) == []
    lungs = Study.open(study).subject("gap").lungs()
    segmentation = hd.seg.segread(done.files[0])
    volume = segmentation.get_volume(combine_segments=True)
    assert np.count_nonzero(volume.array) == np.count_nonzero(lungs.array)
    places = {round(float(f.PlanePositionSequence[0].ImagePositionPatient[2]), 2)
              for f in segmentation.PerFrameFunctionalGroupsSequence}  # fmt: skip
    planes = np.flatnonzero(lungs.lungs.any(axis=(1, 2)))
    assert 20 in planes
    assert places == {round(lungs.frame.origin[2] + lungs.frame.spacing[2] * k, 2) for k in planes}


def test_patients_stay_out_of_results_unless_allowed(
    made: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study, _ = made
    line = ["export-images", str(study), str(tmp_path / "out"), "--to", "dicom", "--subject", "named"]
    assert cli.main(line) == 2
    said = capsys.readouterr().err
    assert "not de-identified (it has PatientName, PatientBirthDate" in said
    assert "Doe" not in said
    assert not list(tmp_path.rglob("*.dcm"))
    assert cli.main([*line, "--identified"]) == 0
    assert str(pydicom.dcmread(tmp_path / "out" / "named" / "report.dcm").PatientName) == "Doe^Jane"
    # Of all subjects those that cannot be placed are failures, the others are done.
    everyone = anatograph.export_images(study, tmp_path / "all", "dicom")
    assert everyone.subjects == ("gap", "plain")
    assert {failure.subject_id for failure in everyone.account.failures} == {"named", "nifti"}
    assert "not a DICOM folder" in next(f.reason for f in everyone.account.failures if f.subject_id == "nifti")
    with pytest.raises(UserError, match="has no subject nobody"):
        anatograph.export_images(study, tmp_path / "none", "dicom", "nobody")


def test_a_scene_for_slicer(made: tuple[Path, Path], tmp_path: Path) -> None:
    study, maps = made
    done = anatograph.export_images(study, tmp_path, "slicer", ["plain", "nifti"], explanations=maps)
    assert [file.name for file in done.files] == ["plain.mrb", "nifti.mrb"]
    with zipfile.ZipFile(done.files[0]) as bundle:
        files = {name: bundle.read(name) for name in bundle.namelist()}
    scene = ElementTree.parse(io.BytesIO(files["plain/plain.mrml"])).getroot()
    nodes = {node.get("id"): node for node in scene}
    assert {"Volume", "LabelMapVolume", "MarkupsFiducial", "ColorTable", "SliceComposite"} <= {n.tag for n in scene}
    for node in scene:  # every reference leads to a node, every file is in the bundle
        for reference in (node.get("references") or "").split(";"):
            if reference:
                assert reference.partition(":")[2] in nodes
        assert node.get("fileName") is None or f"plain/{node.get('fileName')}" in files
        assert node.get("colorNodeID") in (None, "vtkMRMLColorTableNodeGrey", *nodes)
    (tmp_path / "data").mkdir()
    for name, content in files.items():
        (tmp_path / "data" / Path(name).name).write_bytes(content)
    read = {name: sitk.ReadImage(str(tmp_path / "data" / f"{name}.nrrd")) for name in ("scan", "lungs", "map1")}
    subject = Study.open(study).subject("plain")
    for image in read.values():
        assert image.GetSize() == (80, 60, 48)
        np.testing.assert_allclose(image.GetOrigin(), subject.frame.origin, atol=1e-4)
    lungs = sitk.GetArrayFromImage(read["lungs"])
    np.testing.assert_array_equal(lungs, subject.lungs().array)
    heat = sitk.GetArrayFromImage(sitk.ReadImage(str(maps / "plain_emph.nii.gz")))
    values = sitk.GetArrayFromImage(read["map1"])
    np.testing.assert_array_equal(values[heat > 0], heat[heat > 0])
    assert (heat[lungs == 0] == 0).all()
    display = next(node for node in scene if node.get("applyThreshold") == "1")
    assert values[heat == 0].max() < float(display.get("lowerThreshold")) < 0
    points = read_markups(tmp_path / "data" / "landmarks.mrk.json")
    np.testing.assert_allclose(points, subject.landmarks[subject.present], atol=1e-9)
    table = (tmp_path / "data" / "map1.ctbl").read_text(encoding="utf-8").splitlines()[1:]
    assert len(table) == 256
    assert all(len(line.split()) == 6 for line in table)
    assert table[0].split()[2:] != table[-1].split()[2:]
