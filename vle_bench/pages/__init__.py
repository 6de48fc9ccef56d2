"""The parts of every page: one palette, one style sheet, the template engine and the charts."""
