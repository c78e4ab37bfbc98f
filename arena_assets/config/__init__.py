"""A profile, a module a section, and where its files lie."""
