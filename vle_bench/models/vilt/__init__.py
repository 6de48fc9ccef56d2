"""ViLT for visual question answering, of transformers' weights."""
