"""How far a model gives way to please, and how far it turns harsh when it does not."""
