"""Records and published figures → tables."""
