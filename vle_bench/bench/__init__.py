"""Speed and memory of a recipe."""
