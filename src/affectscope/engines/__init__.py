"""Generation, one token at a time, readable and steerable."""
