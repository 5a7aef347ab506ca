"""Scoring rules: what loss a window with its negatives has; one file each behind one interface."""
