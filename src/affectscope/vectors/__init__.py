"""From a crossed corpus to concept vectors, and what can be said of them."""
