"""What people look at: the page, its curves, its crops of images."""
