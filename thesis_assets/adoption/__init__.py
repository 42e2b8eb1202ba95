"""Taking in what other scripts left: finding it, saying what is wrong with it, bringing it under our names by links. Changes nothing of it."""
