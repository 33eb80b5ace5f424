"""The examination of a trained model for a report: predictions over rows of data, samples of them, and weights."""
