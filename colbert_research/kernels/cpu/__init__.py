"""What the backend `cpu` is made of; imports Numba."""
