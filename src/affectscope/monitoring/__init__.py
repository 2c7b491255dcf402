"""Reading a model as it reads and writes."""
