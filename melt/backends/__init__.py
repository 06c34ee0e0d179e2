"""Backends: from a cell, a model and a device to what runs there."""
