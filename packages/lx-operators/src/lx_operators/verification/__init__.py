"""`verify`, which checks small operators by their matrix and large ones by products."""
