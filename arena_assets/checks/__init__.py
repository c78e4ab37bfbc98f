"""What is expected of every table, and the asset checks made of it."""
