"""Datasets as they lie on a disk: pictures, labels, and what they mean together."""
