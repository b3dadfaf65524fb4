"""What training, evaluation, benchmark and the other commands left on disk, as figures and tables of the page."""
