"""The example data and the story that make demo plays."""
