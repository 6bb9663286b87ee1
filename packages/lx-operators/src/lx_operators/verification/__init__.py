"""`verify`: small operators by their matrix, large ones by products."""
