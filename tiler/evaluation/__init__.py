"""How well detections agree with labels: arithmetic on columns, without files.

`EvaluationInputs` hold the labels and detections of many images. Their `candidates`, all detections
with the labels that they may match, are found once; all protocols match and count from these.
"""
