"""Datasets as they lie on a disk: images, labels, what they mean together, and where tiles lie in
them.
"""
