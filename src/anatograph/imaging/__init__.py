"""A volume and its frame, reading and writing scans, resampling, lung masks, flat views."""
