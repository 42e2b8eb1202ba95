"""The scripts that export the Rerun recordings of a tree, where the output document names them."""
