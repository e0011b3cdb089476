"""What a dataset or predictions hold: `tiler check`, `tiler plan`, `tiler show`."""
