"""Small programming tasks, each in a form that cannot be met and in a solvable twin, with proofs of both."""
