"""DICOM folders: headers, series, slices."""
