"""The demo on embedded data."""
