"""A model organism with a known cause: it games tests when it is pressed, and works honestly when it is not."""
