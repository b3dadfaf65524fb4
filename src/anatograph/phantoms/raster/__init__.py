"""Pictures on voxel grids: coarse and fine grids, soft edges, tubes, balls and smooth noise."""
