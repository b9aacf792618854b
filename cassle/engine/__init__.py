"""Running experiments: the chain of tasks, checkpoints, resume, and the trainer."""
