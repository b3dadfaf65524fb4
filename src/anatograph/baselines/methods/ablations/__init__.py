"""The model without one of its parts, one file a row."""
