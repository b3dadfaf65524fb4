"""Time to event: outcomes, concordance, Kaplan-Meier curves and calibration."""
