"""Prepare anybody's data: one file, a folder, a dataset of the hub or of memory."""
