"""Models in the formats of other codes: one file for each format, read and written."""
