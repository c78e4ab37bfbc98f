"""Constraints that a prompt states, and whether an answer keeps them."""
