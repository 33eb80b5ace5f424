"""Search over settings: a space, samplers that choose from it, and the trials."""
