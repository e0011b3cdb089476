"""Datasets as they lie on a disk: pictures, labels, what they mean together, and where tiles lie in them."""
