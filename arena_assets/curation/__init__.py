"""From raw prompt collections to curated prompts, a held-out test set and disjoint slices."""
