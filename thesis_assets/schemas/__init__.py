"""The shape of every file: one pydantic model, column tuple or array table a file. No paths, no IO, no decisions."""
