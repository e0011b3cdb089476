"""Geometry: boxes, outlines, masks and windows, as arithmetic on arrays."""
