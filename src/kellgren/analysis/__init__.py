"""Pure functions over records of arrays: no torch, no disk, no plots."""
