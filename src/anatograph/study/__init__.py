"""The cohort table, the store on disk, preprocessing of one subject, and scheduling of many."""
