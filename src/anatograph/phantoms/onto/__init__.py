"""Half-real cohorts: the phantom's diseases, scanners and small warps drawn into real scans."""
