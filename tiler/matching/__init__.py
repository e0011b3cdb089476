"""Which detections are the same object: pure arithmetic on columns.

Detections are in canonical order (`order.canonical`): of two that compete, the one with
the lower index wins. So nothing here depends on the order in which files were read.
"""
