"""Cohort tables from general sources: a folder tree, a DICOMweb server, an IDC manifest."""
