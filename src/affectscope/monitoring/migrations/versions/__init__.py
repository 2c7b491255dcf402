"""One file a revision. ``store_schema.HEAD`` names the newest."""
