"""The study: what pre-training, token types and the text encoder are worth, in small models."""
