"""A file a kind of sensor, each with its ``KIND``, registered under ``melt.sensors`` in pyproject.toml."""
