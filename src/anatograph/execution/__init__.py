"""Running many independent tasks: claims, atomic files, worker pools, clusters, accounts of runs."""
