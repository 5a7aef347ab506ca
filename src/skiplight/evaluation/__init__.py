"""How good vectors are: similarity, analogy, neighbours, held-out likelihood."""
