"""How well detections agree with labels: arithmetic on columns, without files.

A `Sample` holds the labels and detections of many images. Its `candidates`, every detection with
every label that it may be matched to, are found once; the protocols match and count from there.
"""
