"""Quantitative CT: density, volume and mass of the lungs and their parts."""
