"""Direct solvers: one factorisation a file."""
