"""Volume files that are damaged, mislabelled, unusual or crafted to do harm."""

# ruff: noqa: E501 - what the user sees stands here as one line
from __future__ import annotations

import gzip
import os
import struct
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from hostile.case import case
from hostile.material import chest, image, nifti_header, write


@case("an empty file", "SCAN: cannot be read, damaged or not what its name says (empty); copy or convert it again.")
def empty(folder: Path) -> Path:
    (folder / "scan.nii").write_bytes(b"")
    return folder / "scan.nii"


@case("an empty gzip", "SCAN: cannot be read, damaged or not what its name says (empty); copy or convert it again.")
def empty_gzip(folder: Path) -> Path:
    (folder / "scan.nii.gz").write_bytes(gzip.compress(b""))
    return folder / "scan.nii.gz"


@case("a NIfTI cut short", "SCAN: the file is damaged or cut short, 60000 bytes of 92512; copy or convert it again.")
def cut(folder: Path) -> Path:
    path = write(folder / "scan.nii")
    path.write_bytes(path.read_bytes()[:60000])
    return path


@case(
    "a packed NIfTI cut short",
    "SCAN: the file cannot be read whole, it is damaged or cut short (…); copy or convert it again.",
)
def cut_packed(folder: Path) -> Path:
    path = write(folder / "scan.nii.gz")
    path.write_bytes(path.read_bytes()[:-5000])
    return path


@case(
    "a MetaImage cut short",
    "SCAN: cannot be read, damaged or not what its name says (cut short, … bytes of voxels out of 92160); copy or convert it again.",
)
def cut_meta(folder: Path) -> Path:
    path = write(folder / "scan.mha")
    path.write_bytes(path.read_bytes()[:9000])
    return path


@case(
    "text called .nii.gz",
    "SCAN: cannot be read, damaged or not what its name says (it is no gzip: …); copy or convert it again.",
)
def text(folder: Path) -> Path:
    (folder / "scan.nii.gz").write_text("404 not found")
    return folder / "scan.nii.gz"


@case(
    "a NIfTI called .nrrd",
    "SCAN: cannot be read, damaged or not what its name says (no NRRD header); copy or convert it again.",
)
def renamed(folder: Path) -> Path:
    return write(folder / "scan.nii").rename(folder / "scan.nrrd")


@case(
    "a packed NIfTI called .nii",
    "SCAN: cannot be read, damaged or not what its name says (no NIfTI header); copy or convert it again.",
)
def packed_renamed(folder: Path) -> Path:
    return write(folder / "scan.nii.gz").rename(folder / "scan.nii")


@case(
    "a picture",
    "SCAN: not a scan by its name; give .nii.gz, .nii, .nrrd, .nhdr, .mha, .mhd or a folder with DICOM files.",
)
def picture(folder: Path) -> Path:
    (folder / "scan.png").write_bytes(b"\x89PNG\r\n")
    return folder / "scan.png"


@case("a link that leads nowhere", "SCAN: this file or folder does not exist; check the path.")
def broken_link(folder: Path) -> Path:
    (folder / "scan.nii.gz").symlink_to(folder / "gone.nii.gz")
    return folder / "scan.nii.gz"


@case("a link to a scan outside the cohort's folder (git-annex, DataLad)", "usable")
def link_out(folder: Path) -> Path:
    (folder / "annex").mkdir()
    (folder / "cohort").mkdir()
    (folder / "cohort" / "scan.nii.gz").symlink_to(write(folder / "annex" / "content.nii.gz"))
    return folder / "cohort" / "scan.nii.gz"


@case("a pipe that never answers", "SCAN: not a regular file; give a file with a scan, or a folder with DICOM files.")
def pipe(folder: Path) -> Path:
    os.mkfifo(folder / "scan.nii.gz")
    return folder / "scan.nii.gz"


@case(
    "a gzip that unpacks to far more than its header states",
    "SCAN: it unpacks to far more than the 92,512 bytes that its header states, so it is not what its name says; copy or convert it again.",
)
def bomb(folder: Path) -> Path:
    write(folder / "small.nii")
    with gzip.open(folder / "scan.nii.gz", "wb", compresslevel=1) as file:
        file.write((folder / "small.nii").read_bytes())
        for _ in range(40):
            file.write(bytes(2**22))
    return folder / "scan.nii.gz"


@case(
    "a NIfTI of 348 bytes that claims 30,000³ voxels",
    "SCAN: its header claims 30000 × 30000 × 30000 voxels, 54,000.0 GB, and more than 4 GB is not read; if it is right, set ANATOGRAPH_MAX_SCAN_GB to a larger number.",
)
def giant_nifti(folder: Path) -> Path:
    (folder / "scan.nii").write_bytes(nifti_header((30000, 30000, 30000)))
    return folder / "scan.nii"


@case(
    "a gzip bomb whose header claims all of it",
    "SCAN: its header claims 4096 × 4096 × 4096 voxels, 137.4 GB, and more than 4 GB is not read; if it is right, set ANATOGRAPH_MAX_SCAN_GB to a larger number.",
)
def giant_packed(folder: Path) -> Path:
    (folder / "scan.nii.gz").write_bytes(gzip.compress(nifti_header((4096, 4096, 4096)) + bytes(2**20)))
    return folder / "scan.nii.gz"


@case(
    "an NRRD that claims 2³⁰ × 2³⁰ voxels",
    "SCAN: its header claims 1073741824 × 1073741824 × 24 voxels, 55,340,232,221.1 GB, and more than 4 GB is not read; if it is right, set ANATOGRAPH_MAX_SCAN_GB to a larger number.",
)
def giant_nrrd(folder: Path) -> Path:
    path = write(folder / "scan.nrrd")
    path.write_bytes(path.read_bytes().replace(b"sizes: 48 40 24", b"sizes: 1073741824 1073741824 24"))
    return path


@case(
    "a MetaImage that claims 10⁹ × 10⁹ voxels",
    "SCAN: its header claims 999999999 × 999999999 × 24 voxels, 47,999,999,904.0 GB, and more than 4 GB is not read; if it is right, set ANATOGRAPH_MAX_SCAN_GB to a larger number.",
)
def giant_meta(folder: Path) -> Path:
    path = write(folder / "scan.mha")
    path.write_bytes(path.read_bytes().replace(b"DimSize = 48 40 24", b"DimSize = 999999999 999999999 24"))
    return path


@case(
    "an NRRD header that takes its voxels from /etc/passwd",
    "SCAN: it takes its voxels from a file elsewhere (/etc/passwd); put that file beside it and name it without a folder, or save the scan as one file.",
)
def reaching(folder: Path) -> Path:
    (folder / "scan.nhdr").write_text(
        "NRRD0004\ntype: short\ndimension: 3\nspace: left-posterior-superior\nsizes: 20 20 20\n"
        "space directions: (1,0,0) (0,1,0) (0,0,1)\nendian: little\nencoding: raw\ndata file: /etc/passwd\n"
    )
    return folder / "scan.nhdr"


@case(
    "a MetaImage header that reaches out of its folder",
    "SCAN: it takes its voxels from a file elsewhere (../../x.raw); put that file beside it and name it without a folder, or save the scan as one file.",
)
def reaching_meta(folder: Path) -> Path:
    (folder / "scan.mhd").write_text(
        "ObjectType = Image\nNDims = 3\nDimSize = 20 20 20\nElementType = MET_SHORT\nElementDataFile = ../../x.raw\n"
    )
    return folder / "scan.mhd"


@case(
    "NIfTI without qform and sform",
    "SCAN: the file does not say how the voxels lie in the patient (qform and sform codes are 0), so left and right are unknown; convert the scan again from its DICOM files, or set the code if it is known.",
)
def no_form(folder: Path) -> Path:
    path = write(folder / "scan.nii")
    data = bytearray(path.read_bytes())
    data[252:256] = bytes(4)
    path.write_bytes(bytes(data))
    return path


@case(
    "NIfTI with a sheared affine",
    "SCAN: the axes are not at right angles (affine …), as after an uncorrected gantry tilt; resample the scan onto a rectangular grid first.",
)
def sheared(folder: Path) -> Path:
    path = write(folder / "scan.nii")
    data = bytearray(path.read_bytes())
    data[252:256] = struct.pack("<2h", 0, 1)
    data[280:328] = np.array([[-2, 0, 0, 0], [0, -2, 0.9, 0], [0, 0, 3, 0]], "<f4").tobytes()
    path.write_bytes(bytes(data))
    return path


@case(
    "NIfTI whose pixdim is not its sform's",
    "usable, flagged: the header gives two voxel sizes, 2 × 2.5 × 4 (pixdim) and 2 × 2.5 × 3 (sform); the sform was used, check it",
)
def two_sizes(folder: Path) -> Path:
    return _patched(folder, (88, "f", 4.0))


@case(
    "NIfTI whose sform mirrors its qform",
    "SCAN: its sform and qform are mirror images of each other, so left and right are uncertain; convert the scan again from its DICOM files, or set the code of the wrong one to 0.",
)
def mirrored_qform(folder: Path) -> Path:
    return _patched(folder, (280, "4f", 2.0, 0.0, 0.0, -43.75))


@case(
    "geometry left at its defaults",
    "usable, flagged: its voxels are exactly 1 mm, unrotated, with the origin at 0, which is what software writes when it does not know the geometry; check that the voxels are 1 mm and which way the axes run",
)
def placeholder(folder: Path) -> Path:
    return write(folder / "scan.nii", spacing=(1.0, 1.0, 1.0), origin=(0.0, 0.0, 0.0))


@case(
    "a MetaImage without spacing",
    "SCAN: the file does not state the distance between its voxels (ElementSpacing is missing); add it, or convert the scan again from its DICOM files.",
)
def no_spacing(folder: Path) -> Path:
    path = write(folder / "scan.mha")
    path.write_bytes(path.read_bytes().replace(b"ElementSpacing = 2 2.5 3\n", b"", 1))
    return path


@case(
    "a background masked with 0",
    "usable, flagged: …% of the voxels, around the body, hold exactly 0 HU (a masked background); they were taken as air, check the scan",
)
def masked(folder: Path) -> Path:
    _, y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in chest().shape), indexing="ij")
    body = (x / 0.9) ** 2 + (y / 0.8) ** 2 < 1
    return write(folder / "scan.nii", np.where(body, chest(), 0).astype(np.int16))


@case(
    "everything but the lungs set to -1024",
    "SCAN: hardly any voxel lies between -150 and 200 HU, where soft tissue should be: …% of the voxels hold exactly -1024 HU, so everything but the lungs seems masked out; convert the scan again from its DICOM files.",
)
def lungs_in_air(folder: Path) -> Path:
    hu = chest()
    hu = np.where((hu < -600) & (hu > -950), hu, -1024)
    hu[::5, ::5, 13:15] = 40
    return write(folder / "scan.nii", hu.astype(np.int16))


@case(
    "everything but the lungs set to 0",
    "usable, flagged: …% of the voxels, all but the lungs, hold exactly 0 HU (a masked background); patches at the rim of the lungs see it, so check the scan, or give the whole one",
)
def lungs_alone(folder: Path) -> Path:
    return write(
        folder / "scan.nii", np.where(chest() < -600, np.where(chest() > -950, chest(), 0), 0).astype(np.int16)
    )


def _patched(folder: Path, *edits: tuple[object, ...]) -> Path:
    """The chest as NIfTI with header fields replaced: (offset, struct format, values …)."""
    path = write(folder / "scan.nii")
    data = bytearray(path.read_bytes())
    for at, form, *values in edits:
        struct.pack_into(f"<{form}", data, at, *values)
    path.write_bytes(bytes(data))
    return path


@case("NIfTI with slope and intercept", "usable")
def scaled(folder: Path) -> Path:
    path = write(folder / "scan.nii", (chest().astype(np.int32) + 1024).astype(np.int16))
    data = bytearray(path.read_bytes())
    data[112:120] = struct.pack("<2f", 1.0, -1024.0)
    path.write_bytes(bytes(data))
    return path


@case("floating-point HU", "usable")
def floats(folder: Path) -> Path:
    return write(folder / "scan.nii.gz", chest().astype(np.float32) + np.float32(0.25))


@case(
    "NaN among the voxels",
    "SCAN: there are voxels that are not finite numbers (NaN or infinite); write the scan again with air (-1024) in their place.",
)
def nan(folder: Path) -> Path:
    values = chest().astype(np.float32)
    values[3, 4, 5] = np.nan
    return write(folder / "scan.nii.gz", values)


@case("mirrored axes (a left-handed NIfTI)", "usable")
def mirrored(folder: Path) -> Path:
    return write(folder / "scan.nii.gz", chest()[:, :, ::-1], direction=np.diag([-1.0, 1, 1]))


@case("slices stored from head to foot", "usable")
def inverted(folder: Path) -> Path:
    return write(folder / "scan.nrrd", chest()[::-1], direction=np.diag([1.0, 1, -1]))


@case("four dimensions", "SCAN: 4 dimensions (48 × 40 × 24 × 3); split the series and give one scan.")
def four(folder: Path) -> Path:
    sitk.WriteImage(sitk.JoinSeries([image(chest())] * 3), str(folder / "scan.nii.gz"))
    return folder / "scan.nii.gz"


@case("a fourth dimension of one", "usable")
def four_of_one(folder: Path) -> Path:
    sitk.WriteImage(sitk.JoinSeries([image(chest())]), str(folder / "scan.nii.gz"))
    return folder / "scan.nii.gz"


@case("colours", "SCAN: 3 numbers at every voxel (colour or vectors); a scan has one.")
def colours(folder: Path) -> Path:
    sitk.WriteImage(sitk.Compose([image(chest())] * 3), str(folder / "scan.nrrd"))
    return folder / "scan.nrrd"


@case(
    "an 8-bit picture of a scan",
    "SCAN: the numbers run from 0 to 255, as in an 8-bit picture that was already windowed, not Hounsfield units; convert the scan again from its DICOM files without windowing or scaling.",
)
def eight_bits(folder: Path) -> Path:
    return write(folder / "scan.nii.gz", np.clip((chest() + 1024.0) / 5, 0, 255).astype(np.uint8))


@case(
    "stored values without the intercept",
    "SCAN: the numbers run from 0 to … with nothing below 0, so air cannot be at -1000 HU: these look like stored values without the rescale intercept (usually -1024); subtract it, or convert the scan again from its DICOM files.",
)
def unscaled(folder: Path) -> Path:
    return write(folder / "scan.nii.gz", chest() + 1024)


@case(
    "a lung window",
    "SCAN: …% of all voxels hold the greatest number, 150, as after clipping to a window; convert the scan again from its DICOM files without windowing.",
)
def windowed(folder: Path) -> Path:
    return write(folder / "scan.nii.gz", np.clip(chest(), -1350, 150))


@case("slices 10 mm apart", "usable")
def ten(folder: Path) -> Path:
    return write(folder / "scan.nii.gz", spacing=(2.0, 2.5, 10.0))


@case(
    "slices 12 mm apart",
    "SCAN: slices are 12 mm apart, and more than 10 mm is too coarse to cut patches from; use a thinner reconstruction.",
)
def twelve(folder: Path) -> Path:
    return write(folder / "scan.nii.gz", spacing=(2.0, 2.5, 12.0))


@case("fifteen slices", "SCAN: only 15 slices, and at least 16 are needed; give the whole scan.")
def fifteen(folder: Path) -> Path:
    return write(folder / "scan.nii.gz", chest()[:15])


@case(
    "spacing in metres",
    "SCAN: voxel spacing 0.002 × 0.0025 × 0.003 mm is not possible for a CT; correct the header (spacing is in millimetres).",
)
def metres(folder: Path) -> Path:
    return write(folder / "scan.nii.gz", spacing=(0.002, 0.0025, 0.003))
