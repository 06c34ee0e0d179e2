"""Boards and servers by SSH."""
