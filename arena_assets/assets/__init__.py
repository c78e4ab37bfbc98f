"""Thin assets: which window of which tables, what is called, what is published."""
