"""A file a kind of sensor."""
