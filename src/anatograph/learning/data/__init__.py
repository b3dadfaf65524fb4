"""What training reads: the cohort's presence and edges, the rows of each update, the loader."""
