"""Quality of the scans in a study: pictures, levels, the table of figures and the reader's verdicts."""
