"""Drivers: how a device is reached. ``connect`` opens one by its profile."""
