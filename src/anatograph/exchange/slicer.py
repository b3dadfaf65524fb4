"""A subject as a 3D Slicer scene: scan, lungs, landmarks, maps, and the colours of each."""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from xml.sax.saxutils import quoteattr

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from anatograph._version import __version__
from anatograph.anatomy.markups import write_markups
from anatograph.anatomy.places import places
from anatograph.errors import UserError
from anatograph.exchange.maps import FoundMap
from anatograph.execution.files import whole_file
from anatograph.explanation.map_picture import DIVERGING, SEQUENTIAL
from anatograph.imaging.volume import Frame
from anatograph.imaging.writing import on_stored_grid
from anatograph.study.original_scan import original_scan
from anatograph.study.store import Study

_LUNGS = ((1, "right_lung", (0.43, 0.72, 0.82)), (2, "left_lung", (0.67, 0.54, 0.40)), (3, "lung", (0.43, 0.72, 0.82)))
_WINDOW, _LEVEL = 1400, -500
"""HU; a lung window."""
_COLOURS = 256
_VIEWS = ("Red", "Green", "Yellow")


def write_scene(study: Study, subject_id: str, maps: Sequence[FoundMap], path: Path) -> Path:
    """Write a scene bundle (``.mrb``, a zip of ``ID/ID.mrml`` and ``ID/Data/``) and return its path.

    The scan in HU (nothing below -1024) and the lungs as a label map on the scan's own grid; the landmarks that lie in
    the scan, in LPS mm, named by their place; each map over the scan, transparent where it has no value (there the
    volume holds a number below the map's range).  The first map is shown.

    Raises:
        UserError: the scan or a map cannot be read.
    """
    try:
        volume, lungs = original_scan(study, subject_id)
    except UserError as error:
        raise UserError(f"{error}; restore the scan, or preprocess {subject_id} again.") from error
    subject, where = study.subject(subject_id), places(study.atlas)
    path.parent.mkdir(parents=True, exist_ok=True)
    scene = _Scene()
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".scene-") as name:
        data = Path(name) / "Data"
        data.mkdir()
        _write(data / "scan.nrrd", on_stored_grid(volume.array, volume))
        labels = on_stored_grid(lungs.array, volume)
        _write(data / "lungs.nrrd", labels)
        (data / "lungs.ctbl").write_text(_label_table(), encoding="utf-8")
        names = [f"{place}, {number}" for number, place in enumerate(where)]
        present = np.flatnonzero(subject.present)
        write_markups(data / "landmarks.mrk.json", subject.landmarks[present], [names[j] for j in present])
        scan = scene.volume("Scan", "scan.nrrd", _WINDOW, _LEVEL, "vtkMRMLColorTableNodeGrey")
        mask = scene.labels("Lungs", "lungs.nrrd", scene.colours("Lung colours", "lungs.ctbl", 4))
        scene.markups("Landmarks", "landmarks.mrk.json")
        inside = sitk.GetArrayViewFromImage(labels) > 0
        shown = []
        for number, one in enumerate(maps, start=1):
            low, high = (float(value) for value in one.about["range"])
            frame = Frame.of_image(labels)
            values = one.read(frame)
            outside = low - (high - low)
            _write(data / f"map{number}.nrrd", frame.to_image(np.where(inside & (values != 0), values, outside)))
            (data / f"map{number}.ctbl").write_text(_map_table(str(one.about["colours"]), low, high), encoding="utf-8")
            colours = scene.colours(f"{one.stem} colours", f"map{number}.ctbl", _COLOURS)
            shown.append(
                scene.volume(one.stem, f"map{number}.nrrd", high - low, (low + high) / 2, colours, (outside + low) / 2)
            )
        scene.views(scan, shown[0] if shown else "", mask)
        with whole_file(path) as part, zipfile.ZipFile(part, "w") as bundle:
            _add(bundle, f"{subject_id}/{subject_id}.mrml", scene.text().encode("utf-8"))
            for file in sorted(data.iterdir()):
                _add(bundle, f"{subject_id}/Data/{file.name}", file.read_bytes())
    return path


class _Scene:
    """Nodes of a scene in MRML, Slicer's XML."""

    def __init__(self) -> None:
        self._nodes: list[str] = []
        self._count: dict[str, int] = {}

    def volume(
        self, name: str, file: str, window: float, level: float, colours: str, threshold: float | None = None
    ) -> str:
        """A volume and how it is shown; voxels below ``threshold`` are transparent. Returns its id."""
        shown = {"window": f"{window:g}", "level": f"{level:g}", "autoWindowLevel": "0", "interpolate": "1"}
        if threshold is not None:
            shown |= {"applyThreshold": "1", "autoThreshold": "0", "lowerThreshold": f"{threshold:g}",
                      "upperThreshold": f"{level + window:g}"}  # fmt: skip
        display = self._node("VolumeDisplay", "vtkMRMLScalarVolumeDisplayNode", f"{name} display", **shown,
                             colorNodeID=colours, visibility="true")  # fmt: skip
        return self._stored("Volume", "vtkMRMLScalarVolumeNode", name, file, display)

    def labels(self, name: str, file: str, colours: str) -> str:
        """A label map. Returns its id."""
        display = self._node("LabelMapVolumeDisplay", "vtkMRMLLabelMapVolumeDisplayNode", f"{name} display",
                             colorNodeID=colours, visibility="true")  # fmt: skip
        return self._stored("LabelMapVolume", "vtkMRMLLabelMapVolumeNode", name, file, display)

    def markups(self, name: str, file: str) -> str:
        """A list of points. Returns its id."""
        display = self._node("MarkupsDisplay", "vtkMRMLMarkupsDisplayNode", f"{name} display", visibility="true",
                             glyphScale="1.5", pointLabelsVisibility="false")  # fmt: skip
        storage = self._node("MarkupsJsonStorage", "vtkMRMLMarkupsJsonStorageNode", f"{name} storage",
                             fileName=f"Data/{file}", coordinateSystem="LPS")  # fmt: skip
        return self._node("MarkupsFiducial", "vtkMRMLMarkupsFiducialNode", name,
                          references=f"display:{display};storage:{storage};")  # fmt: skip

    def colours(self, name: str, file: str, count: int) -> str:
        """A colour table. Returns its id."""
        storage = self._node("ColorTableStorage", "vtkMRMLColorTableStorageNode", f"{name} storage",
                             fileName=f"Data/{file}")  # fmt: skip
        return self._node("ColorTable", "vtkMRMLColorTableNode", name, attributes="Category:File",
                          references=f"storage:{storage};", type="14", numcolors=str(count))  # fmt: skip

    def views(self, background: str, foreground: str, labels: str) -> None:
        """What the three slice views show."""
        layers = {"backgroundVolume": background, "foregroundVolume": foreground, "labelVolume": labels}
        references = "".join(f"{role}:{node};" for role, node in layers.items() if node)
        for view in _VIEWS:
            self._nodes.append(_element(
                "SliceComposite", id=f"vtkMRMLSliceCompositeNode{view}", name="SliceComposite", singletonTag=view,
                layoutName=view, references=references, compositing="0", foregroundOpacity="0.5" if foreground else "0",
                labelOpacity="0.3", linkedControl="1",
            ))  # fmt: skip

    def text(self) -> str:
        """The scene file."""
        lines = "\n".join(self._nodes)
        return f'<?xml version="1.0" encoding="UTF-8"?>\n<MRML version="Slicer5.2.2" userTags="">\n{lines}\n</MRML>\n'

    def _stored(self, tag: str, kind: str, name: str, file: str, display: str) -> str:
        storage = self._node("VolumeArchetypeStorage", "vtkMRMLVolumeArchetypeStorageNode", f"{name} storage",
                             fileName=f"Data/{file}", useCompression="1", centerImage="0")  # fmt: skip
        return self._node(tag, kind, name, references=f"display:{display};storage:{storage};")

    def _node(self, tag: str, kind: str, name: str, **attributes: str) -> str:
        self._count[kind] = self._count.get(kind, 0) + 1
        identifier = f"{kind}{self._count[kind]}"
        self._nodes.append(_element(tag, id=identifier, name=name, **attributes))
        return identifier


def _element(tag: str, **attributes: str) -> str:
    written = " ".join(f"{name}={quoteattr(value)}" for name, value in attributes.items())
    return f" <{tag} {written}></{tag}>"


def _label_table() -> str:
    """The colours of the lungs as Slicer's colour file: number, name, red, green, blue, alpha."""
    rows = [f"{label} {name} {' '.join(str(round(255 * part)) for part in rgb)} 255" for label, name, rgb in _LUNGS]
    return "\n".join([f"# Anatograph {__version__}", "0 background 0 0 0 0", *rows, ""])


def _map_table(kind: str, low: float, high: float) -> str:
    """The colours of a map, the ones of its picture, named by the value they stand for."""
    from matplotlib import colormaps

    share = np.linspace(0, 1, _COLOURS)
    rgba: NDArray[np.float64] = (
        colormaps[DIVERGING](share) if kind == "diverging" else colormaps[SEQUENTIAL](0.25 + 0.7 * share)
    )
    values = np.linspace(low, high, _COLOURS)
    rows = [
        f"{number} {value:.4g} {' '.join(str(round(255 * part)) for part in colour[:3])} 255"
        for number, (value, colour) in enumerate(zip(values, rgba, strict=True))
    ]
    return "\n".join([f"# Anatograph {__version__}", *rows, ""])


def _write(path: Path, image: sitk.Image) -> None:
    sitk.WriteImage(image, str(path), True)


def _add(bundle: zipfile.ZipFile, name: str, content: bytes) -> None:
    """Add a file without a time of its own, so that the same inputs give the same bytes."""
    bundle.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), content, zipfile.ZIP_DEFLATED)
