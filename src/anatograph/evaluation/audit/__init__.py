"""What else the embedding knows: age, sex, site, kernel, slice thickness, dose, breath."""
