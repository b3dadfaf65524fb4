"""Diseases of the lungs: where they lie and what they look like."""
