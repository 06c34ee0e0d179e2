"""Builds the native runner for the devices it is to run on, and keeps what it built by content."""
