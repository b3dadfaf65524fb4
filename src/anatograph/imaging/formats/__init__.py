"""Headers of volume files, read and checked before ITK is given the file."""
