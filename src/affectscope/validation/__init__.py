"""Experiments on concept vectors: what they are, and what else they could be. One file an experiment."""
