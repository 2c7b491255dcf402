"""What a person reads in the end: one page that opens from disk, and the same content as JSON."""
