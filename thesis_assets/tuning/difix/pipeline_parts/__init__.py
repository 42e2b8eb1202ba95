"""Files that travel inside a converted directory, so that a `DifixPipeline` loads its parts from there: they import no other room."""
