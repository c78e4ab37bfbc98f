"""Training: rows, trainers, a process of their own, and the checkpoints that they leave."""
