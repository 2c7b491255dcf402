"""A model made readable: loaded, its parts found and checked, its residual stream streamed."""
