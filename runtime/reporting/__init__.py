"""Output for the user: messages, tables and the progress of a training."""
