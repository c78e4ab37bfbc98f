"""Games, the judges that see them, and what becomes of their verdicts."""
