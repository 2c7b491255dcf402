"""A box for code that a model wrote: what it may touch, how long, how much, and proof that each wall stands."""
