"""Datasets on disk: their images, labels and task, and where tiles lie in the images."""
