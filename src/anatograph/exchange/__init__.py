"""Results in the formats of other tools: tables, DICOM objects, 3D Slicer scenes."""
