"""What else the embedding encodes: age, sex, site, kernel, slice thickness, dose, breath."""
