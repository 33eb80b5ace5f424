"""Where integers of the data choose among elements, and what happens to those that none of the elements has."""
