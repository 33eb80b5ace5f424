"""Run-time faults of a correct program: wrong derivatives, failed assertions, values that are not finite."""
