"""What is wrong with a program that has no mistakes: derivatives, assertions, values that are not finite."""
