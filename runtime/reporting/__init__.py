"""What the user sees: messages, tables and the progress of a training."""
