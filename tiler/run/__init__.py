"""Getting long work done: one writer, resumable, complete or absent."""
