"""What every page is made of: one palette, one style sheet, the template engine and the charts."""
