"""Contestants and their responses."""
