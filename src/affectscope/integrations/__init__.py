"""affectscope inside other people's harnesses. Nothing in affectscope imports this package."""
