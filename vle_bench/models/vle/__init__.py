"""VLE and METER: one architecture, two text encoders."""
