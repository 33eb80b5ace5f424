"""Names of the inputs of rows in a step that takes several batches."""


def name_in_batch(name: str, batch: int, batches: int) -> str:
    """The name of an input for one of the batches of a step, from 0; the last one has the plain name."""
    return name if batch == batches - 1 else f"{name} (batch {batch + 1})"
