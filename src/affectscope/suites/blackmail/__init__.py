"""An agent that is about to be replaced has read a secret: scenarios, classes and scripted outputs."""
