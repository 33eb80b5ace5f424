"""What a report says of a trained model: its predictions over rows of data, samples of them, and its weights."""
