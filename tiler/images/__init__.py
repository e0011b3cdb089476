"""Images in and tiles out: a gate on the header, then Pillow."""
