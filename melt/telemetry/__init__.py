"""Telemetry: what to read on a device and what the raw text means. Pure: nothing here does I/O."""
