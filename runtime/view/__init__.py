"""The page that shows what a compiler made of each line of a model: its data, its file, and its server."""
